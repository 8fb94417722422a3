"""How much a labelled pixel weighs in self-training: its confidence, as 8 bits beside its label."""

from __future__ import annotations

import numpy as np

from esl_dist.labels import IGNORE
from esl_dist.pseudo_labels.scores import spec
from esl_dist.pseudo_labels.scores.kinds import Kind, small_is_sure


def confidence_weights(label: np.ndarray, score: np.ndarray, kind: Kind) -> np.ndarray:
    """uint8 ``[H, W]``: the confidence of every labelled pixel in 255ths, 0 where there is no label.

    1 - E (entropy), p (probability), p1 - p2 (margin), 1 - p2 / p1 (margin of logits).

    Rounded to the nearest, but never to 0: a label that was kept is learned from. Float32 in a fixed order, so the bits
    are the same wherever those of the scores are.

    Args:
        label: uint8 ``[H, W]``, 255 = none.
        score: float32 ``[H, W]``, the confidence that the label was chosen by.
    """
    if small_is_sure(kind):
        confidence = np.float32(1) - score
    else:
        confidence = np.float32(1) - spec.exp(-score) if kind == "logit_margin" else score
    parts = np.clip(np.rint(np.float32(255) * confidence), 1, 255).astype(np.uint8)
    return np.where(label == IGNORE, np.uint8(0), parts)
