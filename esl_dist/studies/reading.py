"""A study's folder, read: what its table, its page and its MLflow runs have in common."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esl_dist.config.study import StudyConfig, load_study
from esl_dist.reporting.spread import Spread, spread
from esl_dist.runs import StudyFolder
from esl_dist.studies.record import TrialRecord, trials

ENDED = ("finished", "reused")
"""Statuses whose score is the end of training; a stopped trial's is that of an earlier step."""


@dataclass(frozen=True)
class Setting:
    """Trials that differ in their seed alone."""

    params: Mapping[str, Any]
    trials: tuple[TrialRecord, ...]
    score: Spread
    """Percent, over the seeds whose training ended."""


@dataclass(frozen=True)
class StudyRecord:
    """A study and its trials, by number."""

    path: Path
    config: StudyConfig
    trials: tuple[TrialRecord, ...]

    @property
    def title(self) -> str:
        """What the score is."""
        return f"{self.config.metric.replace('miou', 'mIoU').replace('iou/', 'IoU of ')}, %"

    @property
    def options(self) -> list[str]:
        """What trials differ in."""
        return list(self.config.space)

    def run(self, trial: TrialRecord) -> Path:
        """The run folder that holds a trial's result; of one that was not trained again, that of its twin."""
        twin = next((t for t in self.trials if t.id == trial.same_as), None) if trial.status == "reused" else None
        return self.path / trial.run if twin is None else self.run(twin)

    def settings(self) -> list[Setting]:
        """Settings of which a seed's training has ended and was scored, the best first."""
        found: dict[str, list[TrialRecord]] = {}
        for trial in self.trials:
            if trial.status in ENDED and trial.score is not None:
                found.setdefault(key(trial.params), []).append(trial)
        made = []
        for members in found.values():
            by_seed: dict[int, list[float]] = {}  # a point that was drawn twice is one setting, its seed one seed
            for trial in members:
                by_seed.setdefault(trial.seed, []).append(100 * (trial.score or 0.0))
            score = spread([statistics.fmean(scores) for scores in by_seed.values()])
            assert score is not None
            made.append(Setting(members[0].params, tuple(members), score))
        return sorted(made, key=lambda setting: setting.score.mean, reverse=self.config.mode == "max")

    def best(self) -> TrialRecord | None:
        """The best seed of the best setting: a lucky seed of another setting does not win."""
        settings = self.settings()
        choose = max if self.config.mode == "max" else min
        return choose(settings[0].trials, key=lambda trial: trial.score or 0.0) if settings else None


def key(params: Mapping[str, Any]) -> str:
    """The same for trials that differ in their seed alone."""
    return json.dumps(dict(params), sort_keys=True)


def read_study(path: Path) -> StudyRecord:
    """Read a study's folder.

    Raises:
        ValueError: it is not a study's, or a trial's record is damaged.
    """
    file = StudyFolder(path).config
    if not file.is_file():
        raise ValueError(f"{path}: not a study's folder: it has no {file.name}")
    return StudyRecord(path, load_study(str(file)), tuple(record for _, record in trials(path)))
