"""What a plan consists of, and what its nodes work with.

A node is a piece of a run with a record of its own: a stage that trains networks (``stage.py``), or the label sets
that a teacher makes (``labels.py``). The pipeline asks each in turn whether it is done and makes it if not; it knows no
more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from esl_dist.config.schema import Config
from esl_dist.data.dataset import Dataset
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine import checkpoint
from esl_dist.engine.guards import StopFlag
from esl_dist.metrics.evaluate import EvaluationResult
from esl_dist.runs import RunFolder
from esl_dist.tracking import Tracker


class Node(Protocol):
    """One piece of a run. Everything here is called by all ranks."""

    @property
    def name(self) -> str:
        """Unique in a run."""

    @property
    def entries(self) -> tuple[str, ...]:
        """The words of ``run.stages`` that need it."""

    @property
    def needs(self) -> Mapping[str, str]:
        """Role (``init``, ``teacher``, ``images``, ``labels``) -> name of the node that plays it."""

    def folders(self, run: RunFolder) -> list[Path]:
        """What it owns of a run's folder."""

    def check(self, work: Work) -> None:
        """``ValueError`` where what is on disk was made with other options; it is not gone on with."""

    def check_others(self, nodes: Sequence[Node], work: Work) -> None:
        """Before any node is made: ``ValueError`` where making this one leaves results of others that are no longer of
        it.
        """

    def is_done(self, work: Work) -> bool:
        """Whether nothing is left to be made. Reads records and hashes at most once; loads no network."""

    def found(self, work: Work) -> None:
        """It was done already: record what nobody recorded in this run."""

    def make(self, work: Work) -> None:
        """Make it, going on from what an earlier call left."""

    def finish(self, work: Work) -> None:
        """What follows it, of which an earlier call may have left a part: scores, rewritten images."""


@dataclass
class Work:
    """A run in somebody's hands: its configuration, its folder and what its ranks share."""

    config: Config
    """In optimiser steps and final rates (see ``config/ranks.py``); ``config.yaml`` has it as it was asked for."""
    run: RunFolder
    runtime: Runtime
    tracker: Tracker
    stop: StopFlag
    source: Dataset
    target: Dataset
    scored: Dataset | None
    """The images that results are reported on; None where nothing is scored."""
    at_end: dict[str, EvaluationResult] = field(default_factory=dict)
    """Stage -> score of its last step while training, with the first of ``eval.bn_statistics``: the network that is
    saved is not scored again.
    """

    def final(self, stage: str) -> Path:
        """The checkpoint that a stage ended with; of one that was cut off, its newest valid one."""
        folder = self.run.stage(stage)
        if folder.final is not None:
            return folder.final
        found, rejected = checkpoint.newest_valid(folder.checkpoints)
        if found is None:
            raise ValueError(f"{folder.path}: no valid checkpoint: {'; '.join(rejected) or 'none was saved'}")
        return found

    def weights(self, stage: str) -> dict[str, Any] | None:
        """State dict of the segmenter that a stage ended with; None for no stage (an empty name)."""
        if not stage:
            return None
        state, _ = checkpoint.load(self.final(stage))
        weights: dict[str, Any] = state["segmenter"]
        return weights

    def weights_sha256(self, stage: str) -> str:
        """Of the final weights of a stage that ended; empty before."""
        ending = self.run.stage(stage).done.find() if stage else None
        return ending.weights_sha256 if ending else ""
