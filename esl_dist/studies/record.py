"""``trials/<id>/trial.json``: what became of a trial. Written by whoever has the trial in hand, whole at
every change.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from esl_dist.runs import Record, StudyFolder, TrialFolder

FINAL = ("finished", "stopped", "failed", "reused")
TAIL_LINES = 15

Status = Literal["queued", "running", "finished", "stopped", "failed", "reused"]


@dataclass
class TrialRecord:
    """One point of the search space with one seed. Times in seconds; ``started`` and ``ended`` are Unix time."""

    id: str
    number: int
    params: dict[str, Any]
    """Swept option (or name of ``cases``) -> value (or name of the case)."""
    seed: int
    run: str
    """Its run folder, relative to the study's."""
    status: Status = "queued"
    stopped_by: str | None = None
    """asha or median."""
    reason: str | None = None
    """Why it failed, in one line."""
    log_tail: list[str] = field(default_factory=list)
    started: float | None = None
    ended: float | None = None
    seconds: float = 0.0
    """It was worked on, over all starts; a start that was killed counts up to its last recorded change."""
    same_as: str | None = None
    """Trial whose label set and everything else was the same, where this one was not trained again."""
    score: float | None = None
    """What the study measures: of its end, or of an earlier step while it runs and where it was stopped. 0-1."""
    mlflow_run_id: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.status in FINAL

    def save(self, folder: TrialFolder) -> None:
        """Replace ``trial.json``."""
        _record(folder).write(self)

    @classmethod
    def load(cls, folder: TrialFolder) -> TrialRecord:
        """Read ``trial.json``.

        Raises:
            ValueError: it is damaged; the message says what to do.
        """
        return _record(folder).read()

    def begin(self) -> None:
        """Work on it starts, or goes on."""
        self.status, self.started, self.ended, self.reason = "running", self.started or time.time(), None, None

    def end(self, status: Status, **fields: Any) -> None:
        """Work on it is over (``queued``: for now). A trial that failed has no score, whatever it had come to."""
        self.status, self.ended = status, time.time() if status in FINAL else None
        if status == "failed":
            self.score = None
        for name, value in fields.items():
            setattr(self, name, value)


def text(value: Any) -> str:
    """A value of an option as short as tells it from its neighbours: a number as it was written, a drawn one with six
    digits.
    """
    if isinstance(value, float):
        return next(
            (short for short in (f"{value:.{digits}g}" for digits in (3, 4, 5)) if float(short) == value),
            f"{value:.6g}",
        )
    return value if isinstance(value, str) else json.dumps(value)


def short_names(options: Iterable[str]) -> dict[str, str]:
    """Option -> its last word, or the whole option where two end alike (``align.weight``, ``selftrain.weight``)."""
    last = {option: option.rpartition(".")[2] for option in options}
    alike = Counter(last.values())
    return {option: name if alike[name] == 1 else option for option, name in last.items()}


def trials(study_dir: Path) -> list[tuple[TrialFolder, TrialRecord]]:
    """Folders and records of a study's trials, by number.

    Raises:
        ValueError: a record is damaged.
    """
    found = [(folder, TrialRecord.load(folder)) for folder in StudyFolder(study_dir).trials()]
    return sorted(found, key=lambda entry: entry[1].number)


def _record(folder: TrialFolder) -> Record[TrialRecord]:
    return Record(folder.record, TrialRecord, f"delete {folder.path} and start the study again to repeat that trial")


def log_tail(path: Path, lines: int = TAIL_LINES) -> list[str]:
    """The last lines of a log; empty where there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 16384))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
