"""The scores of a run on a terminal or in a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from esl_dist.reporting.record import read_run
from esl_dist.reporting.tables import STATISTICS_TITLES, Cell, StageRow, summary
from esl_dist.tracking.paint import Paint, painter

_COLUMN = 24
_STYLES = {"up": "green", "down": "red"}


def print_table(run_dir: Path, stream: TextIO | None = None) -> None:
    """Print ``terminal_table`` as wide as the terminal, with colours if it has them."""
    out = stream or sys.stdout
    try:
        columns = os.get_terminal_size(out.fileno()).columns if out.isatty() else 0
    except OSError:
        columns = 0
    print(terminal_table(run_dir, columns, painter(out)), file=out, flush=True)


def terminal_table(run_dir: Path, columns: int = 0, paint: Paint = lambda text, style: text) -> str:
    """The run's scores as plain text: a line per stage, mIoU and its gain over source-only under each kind of BN
    statistics; the kinds stand below one another where ``columns`` characters do not hold them side by side (0: any
    number).
    """
    run = read_run(run_dir)
    kinds = run.statistics()
    rows = summary(run, kinds)
    if not rows:
        return f"{run.name}: nothing was scored (no labelled split to score on)"
    first = next(metrics for row in rows for metrics in row.stage.metrics.values())
    about = f"mIoU (%) on {first.get('images', '?')} images of {first.get('split', '?')}; in brackets the gain over"
    width = max(len(row.stage.title) for row in rows)
    fits = not columns or width + len(kinds) * (_COLUMN + 3) <= columns
    groups = [range(len(kinds))] if fits else [range(i, i + 1) for i in range(len(kinds))]
    lines = [f"{about} source-only"]
    for group in groups:
        lines += _block(rows, [kinds[i] for i in group], group, width, paint)
    if any(cell.best for row in rows for cell in row.cells):
        lines.append("* best without target labels")
    return "\n".join(lines)


def _block(rows: Sequence[StageRow], kinds: Sequence[str], group: Sequence[int], width: int, paint: Paint) -> list[str]:
    head = f"{'':{width}}  " + "   ".join(f"{STATISTICS_TITLES[kind]:>{_COLUMN}}" for kind in kinds)
    lines = [paint(head, "bold")]
    for row in rows:
        cells = "   ".join(_cell(row.cells[i], paint) for i in group)
        lines.append(f"{row.stage.title:{width}}  {cells}".rstrip())
    return lines


def _cell(cell: Cell, paint: Paint) -> str:
    """A score and its gain, 24 characters wide on the screen."""
    value = f"{cell.text + (' *' if cell.best else '  '):>13} "
    gain = f" {'(' + cell.gain_text + ')' if cell.gain_text else '':>9}"
    return (paint(value, "bold") if cell.best else value) + (paint(gain, _STYLES[cell.tone]) if cell.tone else gain)
