"""Options of what survives and what is watched: checkpoints, guards, trackers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from esl_dist.config.bounds import NonNegativeInt, PositiveInt


@dataclass(frozen=True)
class CheckpointConfig:
    """What survives a kill."""

    every: PositiveInt = 1000
    """Optimiser steps between checkpoints."""
    keep: PositiveInt = 2
    """Newest checkpoints kept per stage."""
    background: bool = True
    """Write from a thread, so that the step does not wait."""


@dataclass(frozen=True)
class GuardConfig:
    """What is done when numbers or replicas go bad."""

    non_finite: Literal["stop", "skip"] = "stop"
    """A gradient that is not finite: stop, or skip the step (state unchanged)."""
    max_skips: NonNegativeInt = 10
    """Skipped steps in a row before the run stops."""
    replica_every: NonNegativeInt = 500
    """Steps between comparisons of the weights over the ranks; 0 never compares."""


@dataclass(frozen=True)
class TrackingConfig:
    """Mirrors of ``metrics.jsonl``, which is the truth."""

    mlflow: bool = True
    """Mirror to MLflow; without the extra ``track`` the program says so once and goes on."""
    uri: str = ""
    """Tracking server; empty takes MLFLOW_TRACKING_URI or ``sqlite:///<runs>/mlflow.db``."""
    experiment: str = "esl_dist"
    """MLflow experiment."""
    tensorboard: bool = False
    """Write the same points, and the predictions of each scored network, to ``<run>/tensorboard`` (extra
    ``tensorboard``).
    """
