"""Tables of a page as CSV and LaTeX, inside the page: links that save what they hold."""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from esl_dist.labels.overlap import PARTS
from esl_dist.reporting.matrix import Matrix
from esl_dist.reporting.quality import Comparison
from esl_dist.reporting.record import RunRecord
from esl_dist.reporting.reliability import Reliability
from esl_dist.reporting.tables import STATISTICS_TITLES, Cost, LabelTable, RoundRow, class_table, summary
from esl_dist.reporting.translations import Translated

Cells = Sequence[str | float | int | None]

_SPECIAL = {
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "\\": r"\textbackslash{}",
}


@dataclass(frozen=True)
class Export:
    """A table to be saved: a name for its file, and both forms as data URIs."""

    name: str
    csv: str
    latex: str


def export(name: str, head: Sequence[str], rows: Sequence[Cells]) -> Export:
    """``rows`` below ``head``; CSV has numbers as they are, LaTeX with one decimal (``booktabs``)."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(["" if cell is None else cell for cell in row] for row in rows)
    lines = [rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}", r"\toprule", _line(head), r"\midrule"]
    lines += [_line([_shown(cell) for cell in row]) for row in rows]
    latex = "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])
    return Export(name, data_uri("text/csv", buffer.getvalue()), data_uri("text/x-tex", latex))


@dataclass(frozen=True)
class Tables:
    """What a run's report shows as tables; None or empty where it shows none."""

    kinds: Sequence[str]
    labels: LabelTable | None
    measured: Comparison | None
    rounds: Sequence[RoundRow]
    matrices: Sequence[Matrix]
    reliability: Sequence[Reliability]
    translations: Sequence[Translated]
    costs: Sequence[Cost]


def exports(run: RunRecord, shown: Tables) -> dict[str, Export]:
    """The tables of a run's report, by the names that its template uses."""
    found = {**_scores(run, shown.kinds), **_labels(shown)}
    for matrix in shown.matrices:
        body: list[Cells] = [[name, *row] for name, row in zip(matrix.names, matrix.percent, strict=True)]
        found[f"matrix {matrix.title}"] = export(f"confusion-{_file(matrix.title)}", ["class", *matrix.names], body)
    for entry in shown.reliability:
        head = ["from", "to", "pixels %", "mean probability %", "right %"]
        rows: list[Cells] = [
            [i.low, i.high, 100 * i.share, 100 * i.confidence, 100 * i.accuracy] for i in entry.intervals
        ]
        found[f"reliability {entry.title}"] = export(f"reliability-{_file(entry.title)}", head, rows)
    for made in shown.translations:
        head = [
            "images",
            *(f"{colour}, {what}" for colour in ("red", "green", "blue") for what in ("mean", "deviation")),
        ]
        rows = [[name, *(value for channel in channels for value in channel)] for name, channels in made.colours]
        found[f"colours {made.title}"] = export(f"colours-{_file(made.title)}", head, rows)
    if shown.costs:
        head = ["stage", "steps", "seconds", "images/s", "waiting for data"]
        times: list[Cells] = [
            [c.stage.title, c.stage.steps, c.stage.seconds, c.images_per_second, c.data_wait] for c in shown.costs
        ]
        found["costs"] = export("time", head, times)
    return found


def _scores(run: RunRecord, kinds: Sequence[str]) -> dict[str, Export]:
    found = {}
    rows = summary(run, kinds)
    if rows:
        head = ["stage", *(STATISTICS_TITLES[kind] for kind in kinds)]
        found["summary"] = export("summary", head, [[row.stage.title, *(c.value for c in row.cells)] for row in rows])
    for kind in kinds:
        table = class_table(run, kind)
        named = [*table.rows, ("mean", table.mean)]
        body: list[Cells] = [[name, *(cell.value for cell in cells)] for name, cells in named]
        found[f"classes {table.title}"] = export(f"iou-{kind}", ["class", *(s.title for s in table.stages)], body)
    return found


def _labels(shown: Tables) -> dict[str, Export]:
    """Of the label sets: thresholds and shares per class, from round to round, and where two differ."""
    labels, measured = shown.labels, shown.measured
    if labels is None:
        return {}
    truth = measured is not None and measured.truth
    columns = ("threshold", "kept %", *(("wrong %",) if truth else ()))
    head = ["class", *(f"{title} {column}" for title, _ in labels.sets for column in columns)]
    body: list[Cells] = []
    for name, cells in (*labels.rows, ("all pixels", labels.total)):
        values = [(cell.threshold, cell.coverage, *((cell.wrong,) if truth else ())) for cell in cells]
        body.append([name, *(value for group in values for value in group)])
    found = {"labels": export("pseudo-labels", head, body)}
    if shown.rounds:
        rows: list[Cells] = [[r.title, r.coverage, r.wrong, r.both_kept, r.agreed] for r in shown.rounds]
        found["rounds"] = export("rounds", ["labels", "kept %", "wrong %", "kept by both %", "same class %"], rows)
    if measured is not None and measured.overlap is not None:
        overlap = measured.overlap
        named = {"first": f"{overlap.first} alone", "second": f"{overlap.second} alone"}
        rows = [
            [named.get(part, part), 100 * overlap.share(part), _percent(overlap.wrong_share(part))] for part in PARTS
        ]
        found["overlap"] = export("overlap", ["kept by", "pixels %", "wrong %"], rows)
    return found


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _file(title: str) -> str:
    """A title as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def _line(cells: Sequence[str]) -> str:
    return " & ".join("".join(_SPECIAL.get(letter, letter) for letter in cell) for cell in cells) + r" \\"


def _shown(cell: str | float | int | None) -> str:
    if cell is None:
        return "--"
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def data_uri(kind: str, text: str) -> str:
    """A text inside a link, for a page that stands alone."""
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
