"""What a method builds its networks from, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from esl_dist.config.schema import Config
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.optim import Recipe
from esl_dist.engine.step import TrainStep


@dataclass(frozen=True)
class Kit:
    """What networks are built from."""

    config: Config
    runtime: Runtime
    scaler: torch.amp.GradScaler
    """fp16's; disabled for every other precision."""
    weights: Callable[[str], Mapping[str, Any] | None] = lambda stage: None
    """State dict of the segmenter that a stage ended with, by the stage's name; None for an empty name."""
    pixels: Callable[[str], NDArray[np.int64] | None] = lambda domain: None
    """Pixels of each class in a domain's labels (``source``, ``target``), ``[C]``; None where nobody can count them."""


class Training(NamedTuple):
    """What moves in a stage, and how."""

    step: TrainStep
    """With its networks on the device, wrapped for data parallelism."""
    recipe: Recipe
