"""Scores of the pixels of one image: label, normalised entropy and maximum probability from low-resolution logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from esl_dist.pseudo_labels.scores import eager, library


class Scores(NamedTuple):
    """``label`` uint8, ``entropy`` and ``probability`` float32 in [0, 1], each ``[H, W]`` on one device."""

    label: Tensor
    entropy: Tensor
    probability: Tensor


Scorer = Callable[[Tensor, tuple[int, int]], Scores]
"""Logits float32 ``[C, h, w]`` and the output's (height, width) to its scores."""


def scorer(mode: str) -> tuple[str, Scorer]:
    """The name of the implementation and the function, for ``scores: exact | library``."""
    if mode == "library":
        return "library (torch)", lambda logits, size_hw: Scores(*library.score(logits, size_hw))
    return "exact (torch eager)", lambda logits, size_hw: Scores(*eager.score(logits, size_hw))


def check_finite(logits: Tensor, name: str) -> None:
    """``ValueError`` naming the image whose logits hold NaN or infinity."""
    bad = int(logits.numel() - torch.isfinite(logits).sum())
    if bad:
        raise ValueError(f"{name}: {bad} of {logits.numel()} logits are NaN or infinite; the checkpoint is broken or its precision overflows (extract.precision=fp32)")
