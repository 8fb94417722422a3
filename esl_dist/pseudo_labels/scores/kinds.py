"""The confidences that pixels can be selected by: each a non-negative float32 per pixel, from one map of class
probabilities.

With P the probabilities of a pixel, p1 and p2 the two largest of them:

- ``entropy``: -(1 / ln C) * sum_c P_c ln P_c, 0 to 1, small where the network is sure (ESL, Saporta et al. 2020);
- ``probability``: p1, 1 / C to 1 (SSL, Li et al. 2019);
- ``margin``: p1 - p2, 0 to 1 (best against second best);
- ``logit_margin``: ln p1 - ln p2, 0 to 87.34 nats: the distance of the two largest logits where nothing was
  interpolated.
"""

from __future__ import annotations

from typing import Literal

Kind = Literal["entropy", "probability", "margin", "logit_margin"]

KINDS: tuple[Kind, ...] = ("entropy", "probability", "margin", "logit_margin")
MARGINS: frozenset[Kind] = frozenset({"margin", "logit_margin"})
"""Those that need the second best class too."""

TITLES: dict[Kind, str] = {
    "entropy": "entropy",
    "probability": "maximum probability",
    "margin": "margin of probabilities",
    "logit_margin": "margin of logits",
}


def small_is_sure(kind: Kind) -> bool:
    """Whether a small score means confidence; otherwise a large one does."""
    return kind == "entropy"
