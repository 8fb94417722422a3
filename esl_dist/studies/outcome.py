"""What a trial's run folder left: the labels that it trained on, and its weights."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esl_dist.engine.checkpoint import final_checkpoint
from esl_dist.labels import protocol
from esl_dist.methods import stages
from esl_dist.reporting.gallery import open_target
from esl_dist.reporting.quality import compare
from esl_dist.reporting.record import RunRecord, read_run

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
        if not (run_dir / "config.yaml").is_file():
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

    def _wrong(self, run: RunRecord, name: str, content: dict[str, Any]) -> float | None:
        key = str(content.get("labels") or run.path / name)
        if key not in self._known:
            counted, value = _counted(run.path / "pseudo_labels" / "selection.json", content)
            self._known[key] = value if counted else _measured(run, name)
        return self._known[key]


def _counted(path: Path, content: dict[str, Any]) -> tuple[bool, float | None]:
    """Whether the extraction that made this very set has judged it, and its share of wrong labels."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kept = [entry["kept"] for entry in content["classes"]]
        same = next(
            entry
            for entry in found["sets"]
            if entry["rule"] == content["rule"] and [row["kept"] for row in entry["classes"]] == kept
        )
        return True, same["wrong"]
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return False, None


def _measured(run: RunRecord, name: str) -> float | None:
    target, _ = open_target(run)
    if target is None or not target.labelled:
        return None
    classes = protocol(run.config.data.protocol).num_classes
    return compare(run.path / "pseudo_labels", [name], classes, target).sets[name].wrong()


def final_weights(run_dir: Path, stage: str = "") -> Path | None:
    """The weights that ``stage`` ended with (empty: the last one but the oracle); None where it did not come so far."""
    try:
        folder = run_dir / (stage or [s.name for s in stages(read_run(run_dir).config) if s.role != "bound"][-1])
        final = final_checkpoint(folder)
    except (OSError, ValueError, IndexError) as error:
        log.warning("%s: its weights cannot be found: %s", run_dir, error)
        return None
    return final / "segmenter.pt" if final is not None and (final / "segmenter.pt").is_file() else None
