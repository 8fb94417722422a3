"""Confusion of one image after another, counted where the logits are: nothing waits for a device before the last."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from esl_dist import kernels
from esl_dist.metrics.confusion import confusion_matrix
from esl_dist.metrics.upsample import at_least_two, positions, upsampled_argmax

log = logging.getLogger(__name__)

Count = Callable[[Tensor, Tensor, int], Tensor]
"""Logits ``[C, h, w]``, label uint8 ``[H, W]`` on the same device and C to int64 ``[C, C]`` there."""


def plain(logits: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """By the argmax of the upsampled logits, as a map."""
    prediction = upsampled_argmax(logits, (label.shape[1], label.shape[0]))
    return confusion_matrix(label, prediction, num_classes)


def fused(logits: Tensor, label: Tensor, num_classes: int) -> Tensor:
    """The same counts by one kernel, where no map exists."""
    from esl_dist.kernels.confusion import confusion

    logits = at_least_two(logits.detach().float())
    _, h, w = logits.shape
    height, width = label.shape
    return confusion(
        logits, positions(h, height, logits.device), positions(w, width, logits.device), label.contiguous()
    )


@dataclass
class Counter:
    """Counts images; of each its own table until the end, because some figures are an image's.

    Args:
        count: None takes what the device is fastest at: on CUDA the kernel, once it has given the plain way's counts.
    """

    num_classes: int
    count: Count | None = None
    names: list[str] = field(default_factory=list)
    tables: list[Tensor] = field(default_factory=list)

    def add(self, name: str, logits: Tensor, label: np.ndarray | Tensor) -> None:
        """One image: logits ``[C, h, w]`` at any stride, label uint8 ``[H, W]`` in host memory."""
        there = uploaded(torch.as_tensor(label), logits.device)
        if self.count is None:
            self.count = chosen(logits, there, self.num_classes)
        self.names.append(name)
        self.tables.append(self.count(logits, there, self.num_classes))

    def found(self) -> list[tuple[str, np.ndarray]]:
        """Name and int64 ``[C, C]`` of every image, in order."""
        if not self.tables:
            return []
        return list(zip(self.names, torch.stack(self.tables).cpu().numpy(), strict=True))


def chosen(logits: Tensor, label: Tensor, num_classes: int) -> Count:
    """The kernel where there is CUDA and Triton and it counts this image as the plain way does, else the plain way."""
    if not (logits.is_cuda and kernels.available()):
        return plain
    from esl_dist.kernels.confusion import MOST_CLASSES

    if num_classes > MOST_CLASSES:
        return plain
    if not torch.equal(fused(logits, label, num_classes), plain(logits, label, num_classes)):
        log.warning("the kernel that scores images counts otherwise than torch on this device, so torch scores them")
        return plain
    return fused


def uploaded(label: Tensor, device: torch.device) -> Tensor:
    """On the device, by way of page-locked memory, so that nothing waits."""
    return label.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else label.to(device)
