"""Drawings of a study as inline SVG: a score over an option, and every trial across all options."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from esl_dist.reporting.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, tick_label, ticks
from esl_dist.studies.record import text

MOST_MARKS = 8
"""Values of an option that are written at its axis themselves; of more, round numbers are."""
_CLOSEST = 0.09
CHARACTER = 6.3
"""Width of a letter under an axis."""
"""Marks nearer than this share of the axis would be written over one another."""


@dataclass(frozen=True)
class Axis:
    """Where the values of an option lie, 0 to 1, and what is written there."""

    place: Callable[[Any], float]
    marks: Sequence[tuple[float, str]]
    ordered: bool
    """False for names, whose points no line may join."""


@dataclass(frozen=True)
class Mark:
    """One setting: its value of the option, and a figure per seed."""

    x: Any
    values: Sequence[float]
    name: str
    """Shown where the pointer rests."""
    ended: bool = True
    """False for a trial that a scheduler stopped: drawn hollow."""


@dataclass(frozen=True)
class Line:
    """Settings that differ in one option alone."""

    colour: str
    marks: Sequence[Mark]


def axis(values: Sequence[Any]) -> Axis:
    """Numbers by size (by magnitude where they span more than a factor of 30), anything else by name in order of
    appearance.
    """
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return _numeric(sorted({float(value) for value in values}))
    names = list(dict.fromkeys(text(value) for value in values))
    places = {name: (i + 0.5) / len(names) for i, name in enumerate(names)}
    return Axis(lambda value: places[text(value)], [(place, name) for name, place in places.items()], False)


def _numeric(values: Sequence[float]) -> Axis:
    magnitude = values[0] > 0 and values[-1] / values[0] > 30
    size: Callable[[float], float] = math.log10 if magnitude else float
    low, high = size(values[0]), size(values[-1])
    span = (high - low) or 1.0

    def place(value: Any) -> float:
        return 0.04 + 0.92 * (size(float(value)) - low) / span if high > low else 0.5

    wanted = (
        values
        if len(values) <= MOST_MARKS
        else (
            [10.0**e for e in range(math.ceil(low), math.floor(high) + 1)]
            if magnitude
            else [t for t in ticks(low, high, 5) if low <= t <= high]
        )
    )
    marks: list[tuple[float, str]] = []
    for value in wanted:
        if not marks or place(value) - marks[-1][0] >= _CLOSEST:
            marks.append((place(value), f"{value:.3g}"))
    return Axis(place, marks, True)


def spread_chart(lines: Sequence[Line], across: Axis) -> str:
    """An ``<svg>`` with a dot per seed, and mean and standard deviation of each setting; empty without a figure."""
    ends = [
        end
        for line in lines
        for mark in line.marks
        for end in (min(mark.values), max(mark.values), *_band(mark.values))
    ]
    if not ends:
        return ""
    up = ticks(min(ends), max(ends), 4)

    def at(value: float) -> float:
        return HEIGHT - BOTTOM - (value - up[0]) / (up[-1] - up[0]) * (HEIGHT - TOP - BOTTOM)

    def x_of(value: Any) -> float:
        return LEFT + across.place(value) * (WIDTH - LEFT - RIGHT)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for tick in up:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at(tick):.1f}" y2="{at(tick):.1f}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{at(tick) + 3.5:.1f}" text-anchor="end">{tick_label(tick)}</text>'
        )
    parts += _below(across.marks)
    for line in lines:
        colour = escape(line.colour)
        ended = [mark for mark in line.marks if mark.ended]
        if across.ordered and len(ended) > 1:
            points = " ".join(
                f"{x_of(mark.x):.1f},{at(statistics.fmean(mark.values)):.1f}"
                for mark in sorted(ended, key=lambda mark: float(mark.x))
            )
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.8"'
                ' stroke-linejoin="round"/>'
            )
        for mark in line.marks:
            x, mean = x_of(mark.x), at(statistics.fmean(mark.values))
            title = f"<title>{escape(mark.name)}</title>"
            if not mark.ended:
                parts.append(
                    f'<circle cx="{x:.1f}" cy="{mean:.1f}" r="3" class="hollow" stroke="{colour}"'
                    f' stroke-width="1.2">{title}</circle>'
                )
                continue
            if len(mark.values) > 1:
                low, high = _band(mark.values)
                parts.append(
                    f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{at(low):.1f}" y2="{at(high):.1f}" stroke="{colour}"'
                    ' stroke-width="1.4"/>'
                )
                parts += [
                    f'<circle cx="{x:.1f}" cy="{at(value):.1f}" r="2" fill="{colour}" fill-opacity="0.35"/>'
                    for value in mark.values
                ]
            parts.append(f'<circle cx="{x:.1f}" cy="{mean:.1f}" r="3.4" fill="{colour}">{title}</circle>')
    return "".join([*parts, "</svg>"])


def _below(marks: Sequence[tuple[float, str]]) -> list[str]:
    """The names under an axis: in two rows where they would run into each other in one, cut where they would in two."""
    room = (
        min((right - left for (left, _), (right, _) in itertools.pairwise(marks)), default=1.0)
        * (WIDTH - LEFT - RIGHT)
        / CHARACTER
    )
    rows = (HEIGHT - 8,) if all(len(name) < room for _, name in marks) else (HEIGHT - 14, HEIGHT - 3)
    most = int(len(rows) * room) - 1
    parts = []
    for i, (place, name) in enumerate(marks):
        shown = name if len(name) <= most or len(rows) == 1 else f"{name[: most - 1]}…"
        x, y = LEFT + place * (WIDTH - LEFT - RIGHT), rows[i % len(rows)]
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{y}"'
            f' text-anchor="middle"><title>{escape(name)}</title>{escape(shown)}</text>'
        )
    return parts


@dataclass(frozen=True)
class Thread:
    """One setting across all options."""

    params: Sequence[Any]
    score: float
    name: str
    ended: bool


PARALLEL_WIDTH, PARALLEL_HEIGHT, SIDE, HEAD, FOOT = 1160, 330, 70, 34, 20


def parallel_coordinates(
    titles: Sequence[str], axes: Sequence[Axis], threads: Sequence[Thread], score_title: str, best_is_high: bool
) -> str:
    """An ``<svg>``: an upright axis per option and one for the score; a better setting is drawn stronger and over
    the others.
    """
    scores = [thread.score for thread in threads]
    up = ticks(min(scores), max(scores), 5)
    last = Axis(
        lambda value: (value - up[0]) / (up[-1] - up[0]),
        [((tick - up[0]) / (up[-1] - up[0]), tick_label(tick)) for tick in up],
        True,
    )
    columns = [*axes, last]
    xs = [SIDE + i * (PARALLEL_WIDTH - 2 * SIDE) / (len(columns) - 1) for i in range(len(columns))]

    def y_of(place: float) -> float:
        return PARALLEL_HEIGHT - FOOT - place * (PARALLEL_HEIGHT - HEAD - FOOT)

    parts = [f'<svg class="chart parallel" viewBox="0 0 {PARALLEL_WIDTH} {PARALLEL_HEIGHT}" role="img">']
    worst_first = sorted(threads, key=lambda thread: (thread.ended, thread.score if best_is_high else -thread.score))
    for i, thread in enumerate(worst_first):
        points = " ".join(
            f"{x:.1f},{y_of(column.place(value)):.1f}"
            for x, column, value in zip(xs, columns, [*thread.params, thread.score], strict=True)
        )
        rank = (i + 1) / len(threads)
        best = i == len(threads) - 1
        dash = "" if thread.ended else ' stroke-dasharray="4 4"'
        colour = "#c28a1e" if best else "var(--accent)"
        stroke = (
            f'style="stroke: {colour}" stroke-opacity="{1.0 if best else 0.25 + 0.6 * rank**2:.2f}"'
            f' stroke-width="{2.6 if best else 1.6}"'
        )
        parts.append(
            f'<polyline points="{points}" fill="none" {stroke}{dash}'
            f' stroke-linejoin="round"><title>{escape(thread.name)}</title></polyline>'
        )
    for x, column, title in zip(xs, columns, [*titles, score_title], strict=True):
        anchor = "start" if x == xs[-1] else "end"
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{HEAD}" y2="{PARALLEL_HEIGHT - FOOT}" class="rule"/><text'
            f' x="{x:.1f}" y="18" text-anchor="middle" class="axis">{escape(title)}</text>'
        )
        parts += [
            f'<text class="tick" x="{x + (7 if anchor == "start" else -7):.1f}" y="{y_of(place) + 3.5:.1f}"'
            f' text-anchor="{anchor}">{escape(mark)}</text>'
            for place, mark in column.marks
        ]
    return "".join([*parts, "</svg>"])


def _band(values: Sequence[float]) -> tuple[float, float]:
    """Mean ± sample standard deviation."""
    mean = statistics.fmean(values)
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return mean - deviation, mean + deviation
