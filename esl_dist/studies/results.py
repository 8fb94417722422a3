"""What a study found: ``study.csv``, ``study.html`` and a table for the terminal, from its folder alone and at any
moment.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from esl_dist.atomic import write_text
from esl_dist.reporting.study_page import spread_text
from esl_dist.runs import RunFolder, StudyFolder, lines
from esl_dist.runs.events import Train
from esl_dist.studies.outcome import LabelFigures, Labels
from esl_dist.studies.page import page
from esl_dist.studies.reading import StudyRecord, read_study
from esl_dist.studies.record import Status, TrialRecord, short_names, text
from esl_dist.tracking.console import duration

STATUSES: tuple[Status, ...] = ("finished", "reused", "running", "queued", "stopped", "failed")
_TAIL_BYTES = 16_384


def write(study_dir: Path) -> list[Path]:
    """Write ``study.csv`` and ``study.html`` into a study's folder and return their paths.

    Raises:
        ValueError: the folder is not a study's.
    """
    study, labels = read_study(study_dir), Labels()
    figures = {
        trial.id: found
        for trial in study.trials
        if (found := labels.of(study.run(trial), study.config.stage)) is not None
    }
    folder = StudyFolder(study_dir)
    paths = [folder.table, folder.page]
    table = to_csv(study, figures)
    for path, content in zip(paths, (table, page(study, figures, table)), strict=True):
        write_text(path, content)
    return paths


COLUMNS = ("labels", "coverage", "wrong", "seconds", "started", "ended", "same_as", "reason", "run")


def to_csv(study: StudyRecord, figures: Mapping[str, LabelFigures]) -> str:
    """One line per trial. Scores and shares are 0-1 as they were measured; times are seconds."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["trial", "id", *study.options, "seed", "status", "stopped_by", study.config.metric, *COLUMNS])
    for trial in study.trials:
        found = figures.get(trial.id)
        values = [
            value if isinstance(value := trial.params[option], int | float) else text(value) for option in study.options
        ]
        shares = [found.name, found.coverage, found.wrong] if found else [None] * 3
        rest = [trial.seconds, trial.started, trial.ended, trial.same_as, trial.reason, trial.run]
        writer.writerow(
            [trial.number, trial.id, *values, trial.seed, trial.status, trial.stopped_by, trial.score, *shares, *rest]
        )
    return buffer.getvalue()


def table(study_dir: Path) -> str:
    """The study so far as plain text: a line per trial, then the best setting.

    Raises:
        ValueError: the folder is not a study's.
    """
    study = read_study(study_dir)
    rows = [["trial", *short_names(study.options).values(), "seed", "status", study.title, "time", ""]]
    for trial in study.trials:
        point = [text(trial.params[option]) for option in study.options]
        score = "" if trial.score is None else f"{100 * trial.score:.2f}"
        rows.append(
            [
                trial.id,
                *point,
                str(trial.seed),
                trial.status,
                score,
                duration(trial.seconds) if trial.seconds else "",
                _remark(study, trial),
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(cell.rjust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, _summary(study)])


def _summary(study: StudyRecord) -> str:
    counts, settings = Counter(trial.status for trial in study.trials), study.settings()
    said = (
        f"{study.config.name}:"
        f" {', '.join(f'{counts[status]} {status}' for status in STATUSES if counts[status]) or 'no trial yet'}"
    )
    if not settings:
        return said
    best = settings[0]
    point = ", ".join(f"{option}={text(value)}" for option, value in best.params.items())
    return (
        f"{said}; best {study.title}: {spread_text(best.score)} ({best.score.n} seed{'s' if best.score.n > 1 else ''})"
        f" with {point}"
    )


def _remark(study: StudyRecord, trial: TrialRecord) -> str:
    """How far a running trial is, and why one ended early."""
    if trial.status == "running":
        return _progress(RunFolder(study.path / trial.run).metrics)
    if trial.status == "reused":
        return f"same labels as trial {trial.same_as}"
    if trial.status == "stopped":
        return f"by {trial.stopped_by}" if trial.stopped_by else ""
    return (trial.reason or "").partition("\n")[0] if trial.status == "failed" else ""


def _progress(metrics: Path) -> str:
    try:
        last: Train | None = None
        for line in lines.read(metrics, max(0, metrics.stat().st_size - _TAIL_BYTES)):
            last = line.event if isinstance(line.event, Train) else last
    except OSError:
        return ""
    return f"{last.stage} {last.step}/{last.steps or '?'}" if last else ""
