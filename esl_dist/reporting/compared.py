"""mIoU over steps of several runs: a chart for each stage that was scored while it trained, a line for each group."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from esl_dist.colours import COLOURS, DASHES
from esl_dist.reporting.chart import LONGEST_NAME, Series, line_chart
from esl_dist.reporting.record import RunRecord
from esl_dist.reporting.study_table import Study
from esl_dist.reporting.tables import STATISTICS_TITLES
from esl_dist.runs.events import Eval

Curve = Mapping[int, float]
"""Step -> mIoU in percent."""


@dataclass(frozen=True)
class Line:
    """What one line stands for, the same in every chart."""

    name: str
    end: str
    """The name as it stands beside a line."""
    colour: str
    dash: str
    runs: tuple[RunRecord, ...]


@dataclass(frozen=True)
class Curves:
    """The charts, and what their lines stand for."""

    lines: tuple[Line, ...]
    charts: tuple[tuple[str, Markup], ...]
    means: bool
    """Whether lines are means over seeds, each seed's own pale behind them."""

    @property
    def legend(self) -> list[tuple[str, str, str]]:
        """Name, colour and dash of every line."""
        return [(line.name, line.colour, line.dash) for line in self.lines]


def compared(study: Study) -> Curves:
    """Charts of a study's runs; none where every network was scored at its stage's end alone. A group of several seeds
    is their mean, unless it is the only one: then every seed has a line.
    """
    groups = study.groups
    if len(groups) == 1:
        named: list[tuple[str, tuple[RunRecord, ...]]]
        named = [(f"seed {run.config.run.seed}", (run,)) for run in groups[0].runs]
    else:
        named = [(group.name, group.runs) for group in groups]
    ends = shortened([name for name, _ in named])
    lines = tuple(
        Line(name, ends[i], COLOURS[i % len(COLOURS)], DASHES[(i + i // len(COLOURS)) % len(DASHES)], runs)
        for i, (name, runs) in enumerate(named)
    )
    titles = {stage.folder: stage.title for group in groups for run in group.runs for stage in run.stages}
    charts = []
    for table in study.tables:
        for folder, title in titles.items():
            drawn = [part for line in lines for part in _drawn(line, folder, table.statistics)]
            drawing = line_chart(drawn, names=True)
            if drawing:
                charts.append((f"{title}, {STATISTICS_TITLES[table.statistics]}", Markup(drawing)))
    return Curves(lines, tuple(charts), any(len(line.runs) > 1 for line in lines))


def shortened(names: Sequence[str]) -> list[str]:
    """Names as the ends of lines hold them: where one is too long, without what all of them share at their ends."""
    if max(map(len, names)) <= LONGEST_NAME:
        return list(names)
    head = re.sub(r"[^\W_]*$", "", _shared(names))
    tail = re.sub(r"^[^\W_]*", "", _shared([name[len(head) :][::-1] for name in names])[::-1])
    found = [name[len(head) : len(name) - len(tail)] for name in names]
    return found if all(found) else list(names)


def _shared(names: Sequence[str]) -> str:
    """What all names begin with."""
    return "".join(
        letters[0] for letters in itertools.takewhile(lambda found: len(set(found)) == 1, zip(*names, strict=False))
    )


def _drawn(line: Line, stage: str, statistics: str) -> list[Series]:
    """A group's line with its seeds' own behind it; nothing where a run was scored once."""
    curves = [found for run in line.runs if len(found := _curve(run, stage, statistics)) > 1]
    if not curves:
        return []
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    mean = {step: fmean(curve[step] for curve in curves) for step in steps}
    seeds = [_series(line, curve, faint=True) for curve in curves if len(curves) > 1]
    return [*seeds, _series(line, mean)]


def _curve(run: RunRecord, stage: str, statistics: str) -> Curve:
    scored: Sequence[Eval] = [e for e in run.events_of(Eval) if (e.stage, e.bn_statistics) == (stage, statistics)]
    return {e.step: 100 * e.miou for e in scored if e.miou is not None}


def _series(line: Line, curve: Curve, faint: bool = False) -> Series:
    steps = sorted(curve)
    return Series(line.end, line.colour, steps, [curve[step] for step in steps], line.dash, faint)
