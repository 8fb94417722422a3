"""Small line charts as inline SVG: nothing to install, sharp at any size, readable without scripts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape

WIDTH, HEIGHT = 380, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 10, 26
NAMES = 124
"""Room on the right for the names of lines."""
MOST_POINTS = 240
LEAST_SMOOTHED = 8
"""Points that a line must have to be smoothed."""
LONGEST_NAME = 18
"""Characters of a name beside its line; the rest is cut."""
_NAME_HEIGHT = 11.5

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line: a name, a CSS colour, finite points, how it is dashed (``stroke-dasharray``), whether it is a faint
    companion without a name.
    """

    name: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]
    dash: str = ""
    faint: bool = False


def line_chart(series: Sequence[Series], smooth: bool = False, names: bool = False) -> str:
    """An ``<svg>`` element with the lines over common axes; empty when no line has a finite point.

    Args:
        smooth: lines of ``LEAST_SMOOTHED`` points or more are drawn as running means, the points faint behind them.
        names: each line's name stands on the right, as near to the height of its end as the others let it.
    """
    lines = [replace(s, x=x, y=y) for s in series for x, y in [_thinned(s.x, s.y)] if x]
    if not lines:
        return ""
    xs, ys = [x for s in lines for x in s.x], [y for s in lines for y in s.y]
    if smooth:
        lines = [part for s in lines for part in _smoothed(s)]
    x_ticks, y_ticks = ticks(min(0.0, *xs), max(xs), 5), ticks(min(ys), max(ys), 4)
    width = WIDTH + (NAMES - RIGHT if names else 0)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    kind = "chart named" if names else "chart"
    parts = [f'<svg class="{kind}" viewBox="0 0 {width} {HEIGHT}" role="img">', *_axes(x_ticks, y_ticks, place)]
    parts += [_drawn(s, [place(x, y) for x, y in zip(s.x, s.y, strict=True)]) for s in lines]
    if names:
        parts += _names([(s, place(s.x[-1], s.y[-1])[1]) for s in lines if not s.faint])
    return "".join([*parts, "</svg>"])


def _axes(
    x_ticks: Sequence[float], y_ticks: Sequence[float], place: Callable[[float, float], tuple[float, float]]
) -> list[str]:
    parts = []
    for tick in y_ticks:
        y = place(x_ticks[0], tick)[1]
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/><text class="tick"'
            f' x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{tick_label(tick)}</text>'
        )
    for tick in x_ticks:
        x = place(tick, y_ticks[0])[0]
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{tick_label(tick)}</text>')
    return parts


def _drawn(s: Series, points: Points) -> str:
    """A line, or a dot where there is one point."""
    name, colour = escape(s.name), escape(s.colour)
    if len(points) == 1:
        x, y = points[0]
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" style="fill: {colour}"><title>{name}</title></circle>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    if s.faint:
        return f'<polyline class="faint" points="{path}" fill="none" style="stroke: {colour}" stroke-width="1"/>'
    dash = f' stroke-dasharray="{escape(s.dash)}"' if s.dash else ""
    return (
        f'<polyline points="{path}" fill="none" style="stroke: {colour}" stroke-width="1.8"{dash}'
        f' stroke-linejoin="round"><title>{name}</title></polyline>'
    )


def _names(ends: Sequence[tuple[Series, float]]) -> list[str]:
    """Names beside a piece of their line, none over another; none at all where they do not fit."""
    lowest = HEIGHT - BOTTOM
    if (len(ends) - 1) * _NAME_HEIGHT > lowest - TOP:
        return []
    order = sorted(ends, key=lambda end: end[1])
    heights: list[float] = []
    for _, y in order:
        heights.append(max(y, heights[-1] + _NAME_HEIGHT if heights else TOP))
    bound = float(lowest)
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], bound)
        bound = heights[i] - _NAME_HEIGHT
    parts, left = [], WIDTH - RIGHT + 6
    for (s, _), y in zip(order, heights, strict=True):
        shown = s.name if len(s.name) <= LONGEST_NAME else s.name[: LONGEST_NAME - 1] + "…"
        dash = f' stroke-dasharray="{escape(s.dash)}"' if s.dash else ""
        parts.append(
            f'<line x1="{left}" x2="{left + 16}" y1="{y:.1f}" y2="{y:.1f}" style="stroke: {escape(s.colour)}"'
            f' stroke-width="2"{dash}/><text class="end" x="{left + 20}" y="{y + 3.5:.1f}">{escape(shown)}</text>'
        )
    return parts


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Finite points, averaged in equal groups when there are more than a line can show."""
    points = [(float(a), float(b)) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    group = max(1, math.ceil(len(points) / MOST_POINTS))
    chunks = [points[i : i + group] for i in range(0, len(points), group)]
    return [sum(p[0] for p in c) / len(c) for c in chunks], [sum(p[1] for p in c) / len(c) for c in chunks]


def _smoothed(s: Series) -> list[Series]:
    """The points, faint, and their running mean over an eighth of them; near the ends over fewer, as many on both
    sides.
    """
    count = len(s.y)
    if count < LEAST_SMOOTHED:
        return [s]
    reach = max(1, count // 16)
    sides = [min(reach, i, count - 1 - i) for i in range(count)]
    means = [sum(s.y[i - r : i + r + 1]) / (2 * r + 1) for i, r in enumerate(sides)]
    return [replace(s, faint=True), replace(s, y=means)]


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers that enclose [low, high]."""
    if high <= low:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    rough = (high - low) / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def tick_label(value: float) -> str:
    """A few digits."""
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
