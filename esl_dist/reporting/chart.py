"""Small line charts as inline SVG: nothing to install, sharp at any size, readable without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 380, 210
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 10, 26
COLOURS = ("#c28a1e", "#2563a8", "#2f8f6b", "#b3344a", "#7a4fa3", "#3a9fbf", "#a65f2b")
"""Of lines that are told apart."""
DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2")
"""Of the same lines: who cannot tell the colours apart tells these."""
MOST_POINTS = 240


@dataclass(frozen=True)
class Series:
    """One line: a name for its tooltip, a CSS colour, finite points, and how it is dashed (``stroke-dasharray``)."""

    name: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]
    dash: str = ""


def line_chart(series: Sequence[Series]) -> str:
    """An ``<svg>`` element with the lines over common axes; empty when no line has a finite point."""
    lines = [Series(s.name, s.colour, *_thinned(s.x, s.y), s.dash) for s in series]
    lines = [s for s in lines if s.x]
    if not lines:
        return ""
    xs, ys = [x for s in lines for x in s.x], [y for s in lines for y in s.y]
    x_ticks, y_ticks = ticks(min(0.0, *xs), max(xs), 5), ticks(min(ys), max(ys), 4)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">']
    for tick in y_ticks:
        y = place(x_ticks[0], tick)[1]
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/><text class="tick"'
            f' x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{tick_label(tick)}</text>'
        )
    for tick in x_ticks:
        x = place(tick, y_ticks[0])[0]
        parts.append(f'<text class="tick" x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{tick_label(tick)}</text>')
    for s in lines:
        points = [place(x, y) for x, y in zip(s.x, s.y, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        name, colour = escape(s.name), escape(s.colour)
        dash = f' stroke-dasharray="{escape(s.dash)}"' if s.dash else ""
        if len(points) == 1:
            parts.append(
                f'<circle cx="{points[0][0]:.1f}" cy="{points[0][1]:.1f}" r="2.5"'
                f' style="fill: {colour}"><title>{name}</title></circle>'
            )
        else:
            parts.append(
                f'<polyline points="{path}" fill="none" style="stroke: {colour}" stroke-width="1.8"'
                f'{dash} stroke-linejoin="round"><title>{name}</title></polyline>'
            )
    return "".join([*parts, "</svg>"])


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Finite points, averaged in equal groups when there are more than a line can show."""
    points = [(float(a), float(b)) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    group = max(1, math.ceil(len(points) / MOST_POINTS))
    chunks = [points[i : i + group] for i in range(0, len(points), group)]
    return [sum(p[0] for p in c) / len(c) for c in chunks], [sum(p[1] for p in c) / len(c) for c in chunks]


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
