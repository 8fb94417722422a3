"""What a run folder says about itself: its configuration, stages, scores, label sets and log."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esl_dist.config.entries import parse
from esl_dist.config.load import load_config
from esl_dist.config.schema import Config
from esl_dist.stages.plan import StagePlan, plan
from esl_dist.tracking import jsonl

STATISTICS = ("running", "target")
"""Batch-norm statistics that a stage may have been scored with, in the order of the tables."""

_OBJECTIVES = {
    "none": "no alignment",
    "bn": "BN control",
    "adaptsegnet": "AdaptSegNet",
    "advent": "ADVENT",
    "minent": "MinEnt",
    "maxsquare": "MaxSquare",
    "iw_maxsquare": "MaxSquare+IW",
}
_RULES = {"esl": "ESL", "ssl": "SSL", "median": "median only", "cbst": "CBST"}
_KINDS = {"initial": "initial weights", "source": "source-only", "oracle": "oracle"}


@dataclass(frozen=True)
class StageRecord:
    """One stage of a run, as its folder and the log tell."""

    folder: str
    title: str
    """As papers call it: source-only, BN control, ADVENT, SSL, ESL, oracle."""
    kind: str
    """initial, source, translate, align, selftrain or oracle."""
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
    """Name under ``pseudo_labels/`` -> content of its thresholds.json, the rules that are compared first (SSL, then
    ESL).
    """

    @property
    def name(self) -> str:
        return self.config.run.name

    def statistics(self) -> list[str]:
        """The BN statistics that any stage was scored with."""
        return [kind for kind in STATISTICS if any(kind in stage.metrics for stage in self.stages)]

    def baseline(self) -> StageRecord | None:
        """The source-only stage, that every gain is counted from."""
        return next((stage for stage in self.stages if stage.kind == "source"), None)

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
    log_file = path / "metrics.jsonl"
    events = tuple(jsonl.read(log_file)) if log_file.is_file() else ()
    stages = tuple(_stage(path, stage, config, events) for stage in plan(config) if (path / stage.folder).is_dir())
    sets = {
        folder.parent.name: _read_json(folder) for folder in sorted((path / "pseudo_labels").glob("*/thresholds.json"))
    }
    order = sorted(sets, key=lambda name: (_round(name), {"ssl": 0, "esl": 1}.get(_rule(name), 2), name))
    return RunRecord(path, config, stages, events, {name: sets[name] for name in order})


def label_title(name: str) -> str:
    """``esl-it-r2`` -> ``ESL + IT, round 2``."""
    rule = _RULES.get(_rule(name), _rule(name)) + _translated(_parts(name)["it"] or "")
    return rule if _round(name) == 1 else f"{rule}, round {_round(name)}"


def _parts(name: str) -> re.Match[str]:
    found = re.fullmatch(r"(?P<rule>.+?)(-(?P<it>it\d*))?(-r(?P<round>\d+))?", name)
    assert found is not None
    return found


def _rule(name: str) -> str:
    return _parts(name)["rule"]


def _round(name: str) -> int:
    return int(_parts(name)["round"] or 1)


def _translated(mark: str) -> str:
    """The paper's name for source images in the target's look: `` + IT``, of a second translation `` + IT 2``."""
    return f" + IT {mark.removeprefix('it')}".rstrip() if mark else ""


def objective_title(name: str) -> str:
    """``minent`` -> ``MinEnt``, ``mine:sharpen`` -> ``sharpen``."""
    return _OBJECTIVES.get(name, name.rpartition(":")[2])


def _title(stage: StagePlan, config: Config) -> str:
    if stage.kind == "selftrain":
        return label_title(stage.labels)
    mark = _translated(parse(stage.entry).mark)
    if stage.kind == "align":
        return (
            " + ".join(objective_title(term) for term in (stage.objective, *_extra_terms(stage.objective, config)))
            + mark
        )
    if stage.kind == "translate":
        return "translation" + stage.folder.removeprefix("translate").replace("-", " ")
    return _KINDS[stage.kind] + mark


def _extra_terms(objective: str, config: Config) -> list[str]:
    """What ``align.also`` and self-guidance add to an objective."""
    if objective in ("none", "bn"):
        return []
    return [*(term.objective for term in config.align.also), *(["Multi"] if config.align.self_guidance else [])]


def _stage(path: Path, stage: StagePlan, config: Config, events: Iterable[dict[str, Any]]) -> StageRecord:
    folder = path / stage.folder
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
            and e.get("stage") == stage.folder
            and e.get("bn_statistics") == kind
            and e.get("miou") is not None
        }
        if len(scored) > 1:
            top = max(scored.values(), key=lambda event: event["miou"])
            best[kind] = top["miou"]
            if top.get("miou_star") is not None:
                best_star[kind] = top["miou_star"]
    return StageRecord(
        stage.folder,
        _title(stage, config),
        stage.kind,
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
