"""Tables of a page as CSV and LaTeX, inside the page: links that save what they hold."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

from esl_dist.reporting.quality import Comparison
from esl_dist.reporting.record import RunRecord
from esl_dist.reporting.tables import STATISTICS_TITLES, Cost, LabelTable, class_table, summary

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
    return Export(name, _uri("text/csv", buffer.getvalue()), _uri("text/x-tex", latex))


def exports(
    run: RunRecord, kinds: Sequence[str], labels: LabelTable | None, measured: Comparison | None, costs: Sequence[Cost]
) -> dict[str, Export]:
    """The tables of a run's report, by the names that its template uses."""
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
    if labels:
        truth = measured is not None and measured.truth
        columns = ("threshold", "kept %", *(("wrong %",) if truth else ()))
        head = ["class", *(f"{title} {column}" for title, _ in labels.sets for column in columns)]
        body = []
        for name, cells in (*labels.rows, ("all pixels", labels.total)):
            values = [(cell.threshold, cell.coverage, *((cell.wrong,) if truth else ())) for cell in cells]
            body.append([name, *(value for group in values for value in group)])
        found["labels"] = export("pseudo-labels", head, body)
    if costs:
        head = ["stage", "steps", "seconds", "images/s", "waiting for data"]
        body = [[c.stage.title, c.stage.steps, c.stage.seconds, c.images_per_second, c.data_wait] for c in costs]
        found["costs"] = export("time", head, body)
    return found


def _line(cells: Sequence[str]) -> str:
    return " & ".join("".join(_SPECIAL.get(letter, letter) for letter in cell) for cell in cells) + r" \\"


def _shown(cell: str | float | int | None) -> str:
    if cell is None:
        return "--"
    return f"{cell:.1f}" if isinstance(cell, float) else str(cell)


def _uri(kind: str, text: str) -> str:
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
