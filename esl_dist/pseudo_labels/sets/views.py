"""A network seen through several views of each image: the mean of the class probabilities over mirror images, scales,
heads, and the two networks of a stage with a teacher.

The mean is handed on as its logarithm, whose softmax it is, so that everything behind a forward (spool, scores,
thresholds) works on it as on any network's logits. Averaging probabilities over mirror and scales is what a label's
confidence gains most by (see ``docs/explanation/selection.md``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.pseudo_labels.scores.constants import TINY
from esl_dist.pseudo_labels.sets.forward import Forward


@runtime_checkable
class TwoHeads(Protocol):
    """A forward that also gives the aux head's logits."""

    def __call__(self, images: Tensor) -> Tensor: ...

    def heads(self, images: Tensor) -> Sequence[Tensor]:
        """uint8 ``[B, 3, H, W]`` to float32 logits of every head, the main one first."""


@runtime_checkable
class TwoNetworks(Protocol):
    """A forward whose stage trained with two networks."""

    def __call__(self, images: Tensor) -> Tensor: ...

    def other(self, images: Tensor) -> Tensor:
        """uint8 ``[B, 3, H, W]`` to the float32 logits of the other network."""
        ...


@dataclass(frozen=True)
class Views:
    """Which views are averaged; one of them is enough."""

    mirror: bool = False
    scales: tuple[float, ...] = (1.0,)
    """Factors of the input size."""
    heads: bool = False
    """Whether the aux head's probabilities are averaged with the main head's, so that they count where both agree."""
    teacher: bool = False
    """Whether those of the other network of its stage are: a teacher's and its student's."""

    @staticmethod
    def of(setting: PseudoLabelConfig) -> Views:
        """The views that a rule looks through: those of the options for ``views``, the image alone for any other."""
        chosen = Views(setting.views_mirror, setting.views_scales, setting.views_heads, setting.views_teacher)
        return chosen if setting.rule == "views" else Views()

    @property
    def plain(self) -> bool:
        """Whether it is the image as it is, and nothing else."""
        return self == Views()

    def __str__(self) -> str:
        words = ["mirror"] * self.mirror + ["heads"] * self.heads + ["teacher"] * self.teacher
        return " ".join([*words, *(f"x{scale:g}" for scale in self.scales)])

    @property
    def forwards(self) -> int:
        """Passes through a network that an image takes."""
        return len(self.scales) * (1 + self.mirror) * (1 + self.teacher)

    def through(self, forward: Forward, temperature: float = 1) -> Forward:
        """``forward`` with its logits divided by ``temperature``, and of several views the logarithm of their mean
        probabilities, at the resolution of the first scale's logits.

        Raises:
            ValueError: the aux head or another network is asked for and there is none.
        """
        if self.heads and not isinstance(forward, TwoHeads):
            raise ValueError("pseudo_labels.views_heads: the network has one head; leave it off")
        if self.teacher and not isinstance(forward, TwoNetworks):
            raise ValueError("pseudo_labels.views_teacher: there is one network; leave it off")
        if not self.plain:
            return lambda images: self._mean(forward, images, temperature)
        return forward if temperature == 1 else lambda images: forward(images) / temperature

    def _mean(self, forward: Forward, images: Tensor, temperature: float) -> Tensor:
        total, number = torch.zeros(()), 0
        for logits in self._logits(forward, images):
            prob = torch.softmax(logits.float() / temperature, 1)
            if number and prob.shape != total.shape:
                prob = functional.interpolate(prob, total.shape[-2:], mode="bilinear", align_corners=True)
            total, number = total + prob if number else prob, number + 1
        return (total / number).clamp_min(TINY).log()

    def _logits(self, forward: Forward, images: Tensor) -> Iterator[Tensor]:
        """Of every view and head, turned back to where the image's pixels are."""
        for scale in self.scales:
            view = resized(images, scale)
            for mirrored in (False, True)[: 1 + self.mirror]:
                seen = view.flip(-1) if mirrored else view
                outputs = forward.heads(seen) if self.heads and isinstance(forward, TwoHeads) else [forward(seen)]
                if self.teacher and isinstance(forward, TwoNetworks):
                    outputs = [*outputs, forward.other(seen)]
                yield from (logits.flip(-1) if mirrored else logits for logits in outputs)


def resized(images: Tensor, scale: float) -> Tensor:
    """uint8 images ``[B, 3, H, W]`` at another size, as a photograph would be: bilinear, antialiased, rounded."""
    if scale == 1:
        return images
    size = [round(scale * length) for length in images.shape[-2:]]
    return (
        functional.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
    )
