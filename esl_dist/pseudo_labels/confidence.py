"""From a network's logits to a label and a confidence per pixel (public)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from esl_dist.pseudo_labels.keys import Kind
from esl_dist.pseudo_labels.scores import check_finite, scorer

_KINDS: dict[str, Kind] = {
    "entropy": "entropy",
    "probability": "probability",
    "max_probability": "probability",
    "max_prob": "probability",
}


def confidence_map(logits: Any, size: tuple[int, int], kind: str = "entropy", mode: str = "exact") -> tuple[Any, Any]:
    """Label (uint8) and score (float32) of every pixel of an output of ``size`` (height, width).

    ``logits`` is ``[C, h, w]`` or ``[N, C, h, w]``, torch or numpy, and so are the results, without C. The softmax is
    upsampled as probabilities (bilinear, corners aligned); the label is its first maximum. ``kind`` is ``entropy``,
    normalised to [0, 1] by log C and small where the network is sure, or ``probability`` of the label, large where it
    is sure. ``mode`` is ``exact`` (the same bits on every machine) or ``library`` (torch's own functions, as the
    published code).

    Raises ``ValueError`` for logits that are NaN or infinite, an unknown kind, or fewer than 2 classes.
    """
    if kind not in _KINDS:
        raise ValueError(f"kind: unknown {kind!r}; one of entropy, probability")
    tensor = torch.as_tensor(logits).detach().float()
    if tensor.dim() not in (3, 4) or not 2 <= tensor.shape[-3] <= 255:
        raise ValueError(f"logits: expected [C, h, w] or [N, C, h, w] with 2 to 255 classes, not {list(tensor.shape)}")
    check_finite(tensor, "logits")
    _, score = scorer(mode, tensor.device)
    images = [score(image.contiguous(), size, None, None) for image in (tensor if tensor.dim() == 4 else tensor[None])]
    label = torch.stack([s.label for s in images])
    value = torch.stack([s.of(_KINDS[kind]) for s in images])
    if tensor.dim() == 3:
        label, value = label[0], value[0]
    return (label.numpy(), value.numpy()) if isinstance(logits, np.ndarray) else (label, value)
