"""A confusion matrix as a drawing: what becomes of each class's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup

from esl_dist.reporting.record import NO_METHOD, RunRecord

CELL, LABELS, LEAN = 22, 104, 46
"""Side of a cell, room for a class's name, and how far the last leaning name reaches over, in the drawing's units."""


@dataclass(frozen=True)
class Matrix:
    """What becomes of each class's pixels, in percent of the class, by one stage's network."""

    title: str
    names: Sequence[str]
    percent: Sequence[Sequence[float]]
    drawing: Markup
    open: bool
    """Whether a page shows it unfolded: the last method's."""


def matrices(run: RunRecord, kinds: Sequence[str], names: Sequence[str]) -> list[Matrix]:
    """Of every scored stage, with the first kind of BN statistics that it was scored with."""
    methods = [stage.folder for stage in run.stages if stage.role not in NO_METHOD and stage.metrics]
    found = []
    for stage in run.stages:
        metrics = next((stage.metrics[kind] for kind in kinds if kind in stage.metrics), None)
        percent = None if metrics is None else percentages(metrics.get("confusion") or [], names)
        if percent is not None:
            drawing = Markup(drawn(percent, names))
            found.append(Matrix(stage.title, names, percent.tolist(), drawing, stage.folder in methods[-1:]))
    return found


def percentages(confusion: Sequence[Sequence[int]], names: Sequence[str]) -> np.ndarray | None:
    """Each class's pixels by what they are seen as, in percent of the class, ``[C, C]``; None where nothing was
    counted, or for other classes.

    Args:
        confusion: pixels ``[C][C]``, rows = ground truth.
    """
    counts = np.array(confusion, dtype=np.int64)
    if counts.shape != (len(names), len(names)) or not counts.any():
        return None
    shares: np.ndarray = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return shares


def drawn(percent: np.ndarray, names: Sequence[str]) -> str:
    """An ``<svg>``: a row per true class, a column per predicted one, darker for a larger share of the row's pixels;
    shares of a tenth and more are printed.
    """
    side = LABELS + CELL * len(names)
    parts = [f'<svg class="matrix" viewBox="0 0 {side + LEAN} {side}" role="img" aria-label="confusion matrix">']
    for number, name in enumerate(names):
        at = LABELS + CELL * number + CELL / 2
        parts.append(f'<text class="tick" x="{LABELS - 5}" y="{at + 3.5:.1f}" text-anchor="end">{escape(name)}</text>')
        turn = f"rotate(-60 {at:.1f} {LABELS - 6})"
        parts.append(f'<text class="tick" x="{at:.1f}" y="{LABELS - 6}" transform="{turn}">{escape(name)}</text>')
    for row, true in enumerate(names):
        for column, said in enumerate(names):
            parts.append(_cell(row, column, float(percent[row, column]) / 100, f"{true} seen as {said}"))
    return "".join([*parts, "</svg>"])


def _cell(row: int, column: int, share: float, what: str) -> str:
    x, y = LABELS + CELL * column, LABELS + CELL * row
    tone = "right" if row == column else "wrong"
    box = f'<rect x="{x}" y="{y}" width="{CELL - 1}" height="{CELL - 1}" class="{tone}" fill-opacity="{share:.3f}">'
    text = f"{box}<title>{escape(what)}: {100 * share:.1f} %</title></rect>"
    if share >= 0.1:
        strong = " strong" if share > 0.55 else ""
        text += f'<text class="cell{strong}" x="{x + CELL / 2 - 0.5}" y="{y + CELL / 2 + 3}">{100 * share:.0f}</text>'
    return text
