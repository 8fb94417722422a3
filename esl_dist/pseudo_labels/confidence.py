"""From a network's logits to a label and a confidence per pixel (public)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from esl_dist.pseudo_labels.scores.kinds import KINDS, Kind
from esl_dist.pseudo_labels.scores.scorer import Wanted, check_finite, scoring

_NAMES: dict[str, Kind] = {
    **{kind: kind for kind in KINDS},
    "max_probability": "probability",
    "max_prob": "probability",
}


def confidence_map(logits: Any, size: tuple[int, int], kind: str = "entropy", mode: str = "exact") -> tuple[Any, Any]:
    """Label (uint8) and score (float32) of every pixel of an output of ``size`` (height, width).

    ``logits`` is ``[C, h, w]`` or ``[N, C, h, w]``, torch or numpy, and so are the results, without C. The softmax is
    upsampled as probabilities (bilinear, corners aligned); the label is its first maximum. ``kind`` is ``entropy``,
    normalised to [0, 1] by log C and small where the network is sure, or one that is large where it is sure:
    ``probability`` of the label, ``margin`` of the two largest probabilities, ``logit_margin``, the difference of their
    logarithms in nats (0 to 87.34). ``mode`` is ``exact`` (the same bits on every machine) or ``library`` (torch's own
    functions, as the published code).

    Raises ``ValueError`` for logits that are NaN or infinite, an unknown kind, or fewer than 2 classes.
    """
    if kind not in _NAMES:
        raise ValueError(f"kind: unknown {kind!r}; one of {', '.join(KINDS)}")
    tensor = torch.as_tensor(logits).detach().float()
    if tensor.dim() not in (3, 4) or not 2 <= tensor.shape[-3] <= 255:
        raise ValueError(f"logits: expected [C, h, w] or [N, C, h, w] with 2 to 255 classes, not {list(tensor.shape)}")
    check_finite(tensor, "logits")
    score, asked = scoring(mode, tensor.device).score, Wanted(size, (_NAMES[kind],))
    images = [score(image.contiguous(), asked) for image in (tensor if tensor.dim() == 4 else tensor[None])]
    label = torch.stack([s.label for s in images])
    value = torch.stack([s.maps[_NAMES[kind]] for s in images])
    if tensor.dim() == 3:
        label, value = label[0], value[0]
    return (label.numpy(), value.numpy()) if isinstance(logits, np.ndarray) else (label, value)
