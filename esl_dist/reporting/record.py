"""What a run folder says about itself: its configuration, stages, scores, label sets and log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from esl_dist import methods
from esl_dist.config.load import load_config
from esl_dist.config.schema import Config
from esl_dist.methods import Role, Stage
from esl_dist.runs import CheckpointFolder, RunFolder, StageFolder, lines, manifest
from esl_dist.runs.content import Scores, Thresholds
from esl_dist.runs.events import Eval, Event
from esl_dist.runs.folders import STATISTICS

Kind = TypeVar("Kind", bound=Event)

NO_GAIN = ("start", "baseline")
"""Roles of stages that no gain over source-only is told of."""
NO_METHOD = ("start", "bound")
"""Roles of stages that are not candidates for the best without target labels."""


@dataclass(frozen=True)
class StageRecord:
    """One stage of a run, as its folder and the log tell."""

    folder: str
    title: str
    """As papers call it: source-only, BN control, ADVENT, SSL, ESL, oracle."""
    role: Role
    colour: str | None
    """In charts; None takes the next free one."""
    learned: str
    """Name of the label set that it learned from; empty for none."""
    metrics: dict[str, Scores]
    """BN statistics -> content of its metrics file."""
    best: dict[str, float]
    """BN statistics -> best mIoU seen while training, where it was scored more than once."""
    best_star: dict[str, float]
    """The mIoU* of those same checkpoints, for 16-class networks."""
    steps: int | None
    seconds: float | None
    world: int | None
    """Ranks that trained it."""

    def miou(self, statistics: str) -> float | None:
        """mIoU 0-1, None where not scored."""
        found = self.metrics.get(statistics)
        return None if found is None else found["miou"]


@dataclass(frozen=True)
class RunRecord:
    """A run folder, read."""

    path: Path
    config: Config
    stages: tuple[StageRecord, ...]
    lines: tuple[lines.Line, ...]
    """Of ``metrics.jsonl``, damaged ones among them."""
    label_sets: dict[str, Thresholds]
    """Name under ``pseudo_labels/`` -> content of its thresholds.json, in the order of the stages that learned."""

    @property
    def name(self) -> str:
        return self.config.run.name

    def label_title(self, name: str) -> str:
        """How a label set is called: as the stage that learned from it; another's by its own name."""
        return methods.label_title(name, self.config)

    def statistics(self) -> list[str]:
        """The BN statistics that any stage was scored with."""
        return [kind for kind in STATISTICS if any(kind in stage.metrics for stage in self.stages)]

    def baseline(self) -> StageRecord | None:
        """The source-only stage, that every gain is counted from."""
        return next((stage for stage in self.stages if stage.role == "baseline"), None)

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.path)

    def events_of(self, kind: type[Kind]) -> list[Kind]:
        """The events of one kind, in their order."""
        return [line.event for line in self.lines if isinstance(line.event, kind)]

    def damaged(self) -> list[str]:
        """What is wrong with each line of the log that is not as it was written."""
        return [f"{self.folder.metrics}: line {line.number} {line.damage}" for line in self.lines if line.damage]


def read_run(path: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        ValueError: the folder is not a run's, or a file in it is damaged; the message names it.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise ValueError(f"{path}: not a run folder: it has no {folder.config.name}")
    config = load_config(str(folder.config), [])
    planned = methods.stages(config)
    logged = tuple(lines.read(folder.metrics)) if folder.metrics.is_file() else ()
    evals = [line.event for line in logged if isinstance(line.event, Eval)]
    stages = tuple(_stage(folder.stage(s.name), s, evals) for s in planned if folder.stage(s.name).path.is_dir())
    sets = {made.name: made.thresholds.read() for made in folder.labels.sets()}
    place = {stage.labels: (stage.round, number) for number, stage in enumerate(planned) if stage.labels}
    order = sorted(sets, key=lambda name: (place.get(name, (len(planned), 0)), name))
    return RunRecord(path, config, stages, logged, {name: sets[name] for name in order})


def _stage(folder: StageFolder, stage: Stage, evals: Iterable[Eval]) -> StageRecord:
    metrics = {kind: found for kind in STATISTICS if (found := folder.scores(kind).find()) is not None}
    ending = folder.done.find()
    best, best_star = {}, {}
    for kind in STATISTICS:
        split = metrics[kind].get("split") if kind in metrics else None
        mine = (e for e in evals if e.stage == folder.name and e.bn_statistics == kind and e.miou is not None)
        scored = {e.step: e for e in mine if split in (None, e.split) or not e.split}  # not the best of another
        if len(scored) > 1:
            top = max(scored.values(), key=lambda event: event.miou or 0.0)
            best[kind] = top.miou or 0.0
            if top.miou_star is not None:
                best_star[kind] = top.miou_star
    return StageRecord(
        stage.name,
        stage.title,
        stage.role,
        stage.colour,
        stage.labels,
        metrics,
        best,
        best_star,
        None if ending is None else ending.step,
        None if ending is None else ending.seconds,
        _world(folder),
    )


def _world(folder: StageFolder) -> int | None:
    """Ranks that trained a stage, as its final checkpoint says; None where that is gone."""
    final = folder.final
    if final is None or not CheckpointFolder(final).manifest.is_file():
        return None
    world = manifest.read(final)["meta"].get("world")
    return world if isinstance(world, int) else None
