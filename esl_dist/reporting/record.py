"""What a run folder says about itself: its configuration, stages, scores, label sets and log."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esl_dist import methods
from esl_dist.config.load import load_config
from esl_dist.config.schema import Config
from esl_dist.methods import Role, Stage
from esl_dist.tracking import jsonl

STATISTICS = ("running", "target")
"""Batch-norm statistics that a stage may have been scored with, in the order of the tables."""


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
    metrics: dict[str, dict[str, Any]]
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
        value = self.metrics.get(statistics, {}).get("miou")
        return None if value is None else float(value)


@dataclass(frozen=True)
class RunRecord:
    """A run folder, read."""

    path: Path
    config: Config
    stages: tuple[StageRecord, ...]
    events: tuple[dict[str, Any], ...]
    label_sets: dict[str, dict[str, Any]]
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

    def events_of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("event") == kind]


def read_run(path: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        ValueError: the folder is not a run's, or a file in it is damaged; the message names it.
    """
    if not (path / "config.yaml").is_file():
        raise ValueError(f"{path}: not a run folder: it has no config.yaml")
    config = load_config(str(path / "config.yaml"), [])
    planned = methods.stages(config)
    log_file = path / "metrics.jsonl"
    events = tuple(jsonl.read(log_file)) if log_file.is_file() else ()
    stages = tuple(_stage(path, stage, events) for stage in planned if (path / stage.name).is_dir())
    sets = {
        folder.parent.name: _read_json(folder) for folder in sorted((path / "pseudo_labels").glob("*/thresholds.json"))
    }
    place = {stage.labels: (stage.round, number) for number, stage in enumerate(planned) if stage.labels}
    order = sorted(sets, key=lambda name: (place.get(name, (len(planned), 0)), name))
    return RunRecord(path, config, stages, events, {name: sets[name] for name in order})


def _stage(path: Path, stage: Stage, events: Iterable[dict[str, Any]]) -> StageRecord:
    folder = path / stage.name
    metrics = {kind: _read_json(file) for kind in STATISTICS if (file := folder / f"metrics-{kind}.json").is_file()}
    done = _read_json(folder / "done.json") if (folder / "done.json").is_file() else {}
    manifest = folder / "checkpoints" / str(done.get("checkpoint")) / "manifest.json"
    meta = _read_json(manifest).get("meta", {}) if manifest.is_file() else {}
    best, best_star = {}, {}
    for kind in STATISTICS:
        scored = {
            e["step"]: e
            for e in events
            if e.get("event") == "eval"
            and e.get("stage") == stage.name
            and e.get("bn_statistics") == kind
            and e.get("miou") is not None
        }
        if len(scored) > 1:
            top = max(scored.values(), key=lambda event: event["miou"])
            best[kind] = top["miou"]
            if top.get("miou_star") is not None:
                best_star[kind] = top["miou_star"]
    return StageRecord(
        stage.name,
        stage.title,
        stage.role,
        stage.colour,
        stage.labels,
        metrics,
        best,
        best_star,
        done.get("step"),
        done.get("seconds"),
        meta.get("world"),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path}: is not readable as JSON ({error}); delete it and run the stage's command again"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold a JSON object; delete it and run the stage's command again")
    return content
