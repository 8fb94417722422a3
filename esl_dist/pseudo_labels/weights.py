"""How much a labelled pixel weighs in self-training: its confidence, as 8 bits beside its label."""

from __future__ import annotations

import numpy as np

from esl_dist.labels import IGNORE
from esl_dist.pseudo_labels.keys import Kind


def confidence_weights(label: np.ndarray, score: np.ndarray, kind: Kind) -> np.ndarray:
    """uint8 ``[H, W]``: 1 - E (entropy) or p (probability) of every labelled pixel in 255ths, 0 where there is no
    label.

    Rounded to the nearest, but never to 0: a label that was kept is learned from. Float32 in a fixed order, so the bits
    are the same wherever those of the scores are.

    Args:
        label: uint8 ``[H, W]``, 255 = none.
        score: float32 ``[H, W]``, the confidence that the label was chosen by.
    """
    confidence = np.float32(1) - score if kind == "entropy" else score
    parts = np.clip(np.rint(np.float32(255) * confidence), 1, 255).astype(np.uint8)
    return np.where(label == IGNORE, np.uint8(0), parts)
