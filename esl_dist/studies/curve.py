"""A trial's score while it trains and in the end, read from its run folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from esl_dist.config.ranks import on_ranks
from esl_dist.config.schema import Config
from esl_dist.config.study import StudyConfig
from esl_dist.labels import protocol
from esl_dist.methods import Stage, stages
from esl_dist.runs import RunFolder, lines
from esl_dist.runs.events import Eval, Labels


class Point(NamedTuple):
    """A score between evaluations; ``step`` counts over the stages that the trial trains itself."""

    step: int
    score: float


def scored_stage(study: StudyConfig, config: Config) -> Stage:
    """The stage whose score is the trial's.

    Raises:
        ValueError: there is none of that name, or nothing is scored as ``study.metric`` says.
    """
    wanted, classes = study.metric.removeprefix("iou/"), protocol(config.data.classes).classes
    if study.metric != "miou" and wanted not in classes:
        raise ValueError(
            f"study.metric: {wanted!r} is no class of data.classes={config.data.classes}: {', '.join(classes)}"
        )
    planned = stages(config)
    if not config.eval.split:
        raise ValueError("eval.split is empty, so no trial gets a score; name a labelled split")
    named = [s for s in planned if (s.name == study.stage if study.stage else s.role != "bound")]
    if not named:
        raise ValueError(
            f"study.stage: no stage {study.stage!r} in this trial; its stages are {', '.join(s.name for s in planned)}"
        )
    statistics = study.bn_statistics or config.eval.bn_statistics[0]
    if statistics not in config.eval.bn_statistics:
        raise ValueError(
            f"study.bn_statistics: {statistics} is not among eval.bn_statistics={list(config.eval.bn_statistics)}"
        )
    if study.scheduler != "none" and not config.eval.every:
        raise ValueError(f"study.scheduler: {study.scheduler} needs scores while a trial trains; set eval.every=STEPS")
    if study.scheduler != "none" and statistics != config.eval.bn_statistics[0]:
        raise ValueError(
            "study.bn_statistics: scores while training are with the first of eval.bn_statistics; put this one first,"
            " or set scheduler=none"
        )
    return named[-1]


def final_score(study: StudyConfig, config: Config, run_dir: Path) -> float | None:
    """The trial's score after its last step; None where the class is absent."""
    statistics = study.bn_statistics or config.eval.bn_statistics[0]
    metrics = RunFolder(run_dir).stage(scored_stage(study, config).name).scores(statistics).read()
    value = metrics["miou"] if study.metric == "miou" else metrics["iou"].get(study.metric.removeprefix("iou/"))
    return None if value is None else float(value)


def is_of_curve(study: StudyConfig, config: Config) -> bool:
    """Whether scores while training are what the study measures: mIoU with the first of ``eval.bn_statistics``."""
    statistics = config.eval.bn_statistics[0]
    return study.metric == "miou" and study.bn_statistics in ("", statistics)


class Curve:
    """Follows ``metrics.jsonl`` of a run: its scores while training, each step once, and the label set that it has
    made.
    """

    def __init__(self, config: Config, world: int, run_dir: Path) -> None:
        self._path = RunFolder(run_dir).metrics
        self._offset, self._inode, self._last = 0, -1, 0
        self._before: dict[str, int] = {}
        done = 0
        for stage in stages(on_ranks(config, world)[0]):
            if stage.entry not in config.run.adopted and stage.role != "bound":
                self._before[stage.name] = done
                done += stage.steps
        self.steps = done
        """Of all stages that the trial trains itself."""
        self._statistics = config.eval.bn_statistics[0]
        self.labels = ""
        """SHA-256 of the label set that was made last; empty before."""

    def new(self) -> list[Point]:
        """Scores since the last call. A step that a resumed run repeats is given once."""
        found = []
        try:
            now = os.stat(self._path)
            if now.st_ino != self._inode or now.st_size < self._offset:  # a resume rewrites the file
                self._inode, self._offset = now.st_ino, 0
            for line in lines.read(self._path, self._offset, complete=True):
                self._offset += len(line.raw)
                event = line.event
                if isinstance(event, Labels):
                    self.labels = event.labels
                elif isinstance(event, Eval) and self._counts(event):
                    step = self._before[event.stage] + event.step
                    if event.miou is not None and step > self._last:
                        self._last = step
                        found.append(Point(step, event.miou))
        except FileNotFoundError:
            pass
        return found

    def _counts(self, event: Eval) -> bool:
        """Whether a score is of a stage that the trial trains itself, with the statistics that it is compared by."""
        return event.stage in self._before and event.bn_statistics == self._statistics
