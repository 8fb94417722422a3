"""Options of self-training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from esl_dist.config.check import require


@dataclass(frozen=True)
class SelfTrainConfig:
    """Re-training with pseudo-labels, alignment kept on."""

    steps: int = 120_000
    """Optimiser steps per round."""
    rounds: int = 1
    """Times that labels are made and the network re-trained."""
    init: Literal["initial", "source", "align", "teacher"] = "initial"
    """Weights every round starts from (the paper: initial); ``teacher`` goes on from the network that made
    its labels.
    """
    ema: float = 0.0
    """Decay of an exponential moving average of the weights; above 0 that average is a round's result: scored, and
    teacher of the next round.
    """
    weight: float = 1.0
    """Weight of the target cross-entropy on the main head."""
    weight_aux: float = 0.1
    """Weight of the target cross-entropy on the aux head."""
    label_weight: Literal["none", "confidence"] = "none"
    """confidence: a pixel counts by 1 - E (esl, median) or p (ssl) of its label, and the mean is the weighted one;
    none: all alike.
    """
    objective: str = "same"
    """Alignment kept on beside it: ``same`` as ``align.objective``, or any of its values (``none`` drops it)."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, "selftrain.steps", "must be 1 or more")
        require(self.rounds >= 1, "selftrain.rounds", "must be 1 or more")
        require(0 <= self.ema < 1, "selftrain.ema", f"must be 0 (off) or more and below 1, not {self.ema}")
