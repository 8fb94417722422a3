"""Options of self-training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from esl_dist.config.bounds import BelowOne, Bound, NonNegativeFloat, PositiveInt


@dataclass(frozen=True)
class SelfTrainConfig:
    """Re-training with pseudo-labels, alignment kept on."""

    steps: PositiveInt = 120_000
    """Optimiser steps per round."""
    rounds: Annotated[int, Bound(1, 1000)] = 1
    """Times that labels are made and the network re-trained."""
    init: Literal["initial", "source", "align", "teacher"] = "initial"
    """Weights every round starts from (the paper: initial); ``teacher`` goes on from the network that made
    its labels.
    """
    ema: BelowOne = 0.0
    """Decay of an exponential moving average of the weights; above 0 that average is a round's result: scored, and
    teacher of the next round.
    """
    weight: NonNegativeFloat = 1.0
    """Weight of the target cross-entropy on the main head."""
    weight_aux: NonNegativeFloat = 0.1
    """Weight of the target cross-entropy on the aux head."""
    label_weight: Literal["none", "confidence"] = "none"
    """confidence: a pixel counts by 1 - E (esl, median) or p (ssl) of its label, and the mean is the weighted one;
    none: all alike.
    """
    objective: str = "same"
    """Alignment kept on beside it: ``same`` as ``align.objective``, or any of its values (``none`` drops it)."""
