"""What a trial's run folder left: the labels that it trained on, and its weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from esl_dist.labels import protocol
from esl_dist.methods import stages
from esl_dist.reporting.gallery import open_target
from esl_dist.reporting.quality import compare
from esl_dist.reporting.record import RunRecord, read_run
from esl_dist.runs import CheckpointFolder, RunFolder
from esl_dist.runs.content import Thresholds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelFigures:
    """The label set that a trial trained on last; shares 0-1."""

    name: str
    coverage: float
    """Pixels of the target set that have a label."""
    wrong: float | None
    """Of them, those that are wrong; None without ground truth."""


class Labels:
    """Label figures of runs; what two runs share is measured once."""

    def __init__(self) -> None:
        self._known: dict[str, float | None] = {}

    def of(self, run_dir: Path, stage: str = "") -> LabelFigures | None:
        """Of the labels that ``stage`` trained on (empty: the last stage that trained on any); None where there are
        none to read.
        """
        if not RunFolder(run_dir).config.is_file():
            return None  # it was never started
        try:
            run = read_run(run_dir)
            names = [s.labels for s in stages(run.config) if s.labels and stage in ("", s.name)]
            name = next((name for name in reversed(names) if name in run.label_sets), "")
            if not name:
                return None
            content = run.label_sets[name]
            counts = [(entry["kept"], entry["count"]) for entry in content["classes"]]
            coverage = sum(kept for kept, _ in counts) / max(sum(count for _, count in counts), 1)
            return LabelFigures(name, coverage, self._wrong(run, name, content))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: its labels are not in the study's result: %s", run_dir, error)
            return None

    def _wrong(self, run: RunRecord, name: str, content: Thresholds) -> float | None:
        key = str(content.get("labels") or run.path / name)
        if key not in self._known:
            counted, value = _counted(run.path, content)
            self._known[key] = value if counted else _measured(run, name)
        return self._known[key]


def _counted(run_dir: Path, content: Thresholds) -> tuple[bool, float | None]:
    """Whether the extraction that made this very set has judged it, and its share of wrong labels."""
    kept = [row["kept"] for row in content["classes"]]
    for teacher in RunFolder(run_dir).labels.teachers():
        found = teacher.selection.recall()
        for made in found["sets"] if found is not None else ():
            if made["rule"] == content.get("rule") and [row["kept"] for row in made["classes"]] == kept:
                return True, made["wrong"]
    return False, None


def _measured(run: RunRecord, name: str) -> float | None:
    target, _ = open_target(run)
    if target is None or not target.labelled:
        return None
    classes = protocol(run.config.data.classes).num_classes
    return compare([RunFolder(run.path).labels.set(name)], classes, target).sets[name].wrong()


def final_weights(run_dir: Path, stage: str = "") -> Path | None:
    """The weights that ``stage`` ended with (empty: the last one but the oracle); None where it did not come so far."""
    try:
        name = stage or [s.name for s in stages(read_run(run_dir).config) if s.role != "bound"][-1]
        final = RunFolder(run_dir).stage(name).final
    except (OSError, ValueError, IndexError) as error:
        log.warning("%s: its weights cannot be found: %s", run_dir, error)
        return None
    weights = None if final is None else CheckpointFolder(final).segmenter
    return weights if weights is not None and weights.is_file() else None
