"""The training curves of a run: a chart per loss with a line per stage, and the mIoU while training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from markupsafe import Markup

from esl_dist.colours import COLOURS, DASHES
from esl_dist.reporting.chart import Series, line_chart
from esl_dist.reporting.record import RunRecord, StageRecord
from esl_dist.reporting.tables import STATISTICS_TITLES
from esl_dist.runs.events import Eval, Train
from esl_dist.tracking.losses import title as loss_title

_ROLES = {"start": "var(--faint)", "baseline": "var(--muted)", "bound": "var(--ink)"}
"""Roles whose stages are grey in every chart, light pages and dark ones."""

_FIRST = ("source_main", "target_main", "adv_main", "d_main_source", "d_main_target")
"""Losses whose charts come first."""


def line_colours(run: RunRecord) -> dict[str, str]:
    """Folder -> colour; the same stage has the same colour in every chart."""
    free = itertools.cycle(COLOURS)
    return {stage.folder: _ROLES.get(stage.role) or stage.colour or next(free) for stage in run.stages}


def line_dashes(run: RunRecord) -> dict[str, str]:
    """Folder -> how the stage's line is dashed; methods alone are told apart, the others have greys of their own."""
    free = itertools.cycle(DASHES)
    return {stage.folder: "" if stage.role in _ROLES else next(free) for stage in run.stages}


def legend(run: RunRecord) -> list[tuple[str, str, str]]:
    """Title, colour and dash of every stage's line."""
    colours, dashes = line_colours(run), line_dashes(run)
    return [(stage.title, colours[stage.folder], dashes[stage.folder]) for stage in run.stages]


def curves(run: RunRecord) -> list[tuple[str, Markup]]:
    """Title and drawing of every chart that has a line."""
    trained = run.events_of(Train)
    found = {key.removeprefix("loss/") for event in trained for key in event.figures if key.startswith("loss/")}
    names = [name for name in _FIRST if name in found] + sorted(found - set(_FIRST))
    colours, dashes = line_colours(run), line_dashes(run)
    charts = []
    for name in names:
        points = {
            s.folder: [(e.step, e.figures.get(f"loss/{name}")) for e in trained if e.stage == s.folder]
            for s in run.stages
        }
        lines = [_series(s, colours, points[s.folder], dashes[s.folder]) for s in run.stages]
        charts.append((loss_title(name), line_chart(lines, smooth=True, names=True)))
    for kind in run.statistics():
        scores = [e for e in run.events_of(Eval) if e.bn_statistics == kind]
        points = {s.folder: [(e.step, _percent(e.miou)) for e in scores if e.stage == s.folder] for s in run.stages}
        repeated = [s for s in run.stages if len({step for step, _ in points[s.folder]}) > 1]
        lines = [_series(s, colours, points[s.folder], dashes[s.folder]) for s in repeated]
        charts.append((f"mIoU while training, %, {STATISTICS_TITLES[kind]}", line_chart(lines, names=True)))
    return [(title, Markup(drawing)) for title, drawing in charts if drawing]


def _series(
    stage: StageRecord, colours: dict[str, str], points: Sequence[tuple[int, float | None]], dash: str
) -> Series:
    """A stage's line; a value that was not finite is left out."""
    known = [(step, value) for step, value in points if value is not None]
    return Series(stage.title, colours[stage.folder], [x for x, _ in known], [y for _, y in known], dash)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
