"""What selection goes through: a rank's images with their labels and scores, as often as it needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from torch import Tensor

from esl_dist.pseudo_labels.scores.kinds import Kind


class Scored(NamedTuple):
    """One image: label uint8 and float32 scores ``[H, W]``; the logits ``[C, h, w]`` where they are at hand."""

    id: int
    name: str
    label: np.ndarray
    score: dict[Kind, np.ndarray]
    logits: Tensor | None

    def key(self, kind: Kind) -> np.ndarray:
        """uint32 keys: the scores are finite and 0 or more, so their bits are the keys."""
        return self.score[kind].view(np.uint32)


class ScoredImages(Protocol):
    """Every image of this rank once per iteration."""

    costly: bool
    """Whether an iteration runs the network."""

    def __iter__(self) -> Iterator[Scored]: ...

    def high(self, kind: Kind) -> np.ndarray | None:
        """The first-pass histogram of all these images, where it is known already."""

    def within(self, ids: range) -> ScoredImages:
        """Those of them whose id is in the range."""
