"""Options of DRSL's second head: modes of each class in an embedding space, and their alignment over the domains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from esl_dist.config.bounds import Bound, NonNegativeFloat, PositiveFloat, PositiveInt
from esl_dist.config.check import require


@dataclass(frozen=True)
class MmdlConfig:
    """Multi-modal distribution learning beside the segmentation head, in ``align`` and ``selftrain`` (not in the
    batch-norm control).
    """

    weight: NonNegativeFloat = 0.0
    """Weight of the distance-metric loss on source labels; 0 builds no such head."""
    weight_target: NonNegativeFloat = 0.0
    """Weight of the same loss on pseudo-labels in self-training."""
    align_weight: NonNegativeFloat = 0.0
    """Weight of mode alignment: target pixels are pulled to source pixels of their mode."""
    modes: Annotated[int, Bound(1, 1000)] = 3
    """Representatives of each class (K)."""
    dim: Annotated[int, Bound(2, 65_536)] = 64
    """Dimensions of the embedding (d)."""
    sigma: PositiveFloat = 0.3
    """Width of a mode, in an embedding of length 1: a class counts as exp(-distance^2 / 2 sigma^2) of its
    nearest mode.
    """
    margin: Annotated[float, Bound(0, 2)] = 0.5
    """How much nearer the own class shall be than any other; distances are 0 to 2."""
    balance: NonNegativeFloat = 0.3
    """Weight, relative to the metric loss on the source, of the term that keeps all modes of a class in use."""
    samples: PositiveInt = 512
    """Pixels of each image and domain that the head sees in a step."""
    pool: PositiveInt = 256
    """How many of a source image's are sent to all ranks, as what target pixels are pulled to: ranks x optim.batch x
    pool x (dim + 1) floats a step.
    """

    def __post_init__(self) -> None:
        for name in ("weight_target", "align_weight"):
            require(
                self.weight > 0 or getattr(self, name) == 0,
                f"mmdl.{name}",
                "needs modes learnt on the source: set mmdl.weight above 0",
            )
        require(
            self.pool <= self.samples,
            "mmdl.pool",
            f"must be at most mmdl.samples ({self.samples}), of which they are",
        )
