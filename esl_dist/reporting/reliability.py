"""Whether a network's probabilities mean what they say: the reliability diagram and the expected calibration error.

Guo, Pleiss, Sun and Weinberger, On Calibration of Modern Neural Networks, ICML 2017: over intervals of the probability
of the predicted class, ECE = sum of n_i / N * |accuracy_i - confidence_i|.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from esl_dist.reporting.record import RunRecord

SIDE, LEFT, TOP, BELOW = 200, 40, 8, 46
"""Pixels: the square, the room for its labels, and the strip of shares with the labels below."""
_STRIP = 22


@dataclass(frozen=True)
class Interval:
    """Pixels whose probability lies in an interval; everything 0-1."""

    low: float
    high: float
    share: float
    """Of all pixels with ground truth."""
    confidence: float
    """Their mean probability."""
    accuracy: float
    """Share of right predictions."""


@dataclass(frozen=True)
class Reliability:
    """One network on the target images that its labels were made of."""

    title: str
    intervals: tuple[Interval, ...]

    @property
    def error(self) -> float:
        """Expected calibration error, 0-1."""
        return sum(i.share * abs(i.accuracy - i.confidence) for i in self.intervals)

    @property
    def bias(self) -> float:
        """Mean probability less the share of right predictions; above 0 the network is too sure."""
        return sum(i.share * (i.confidence - i.accuracy) for i in self.intervals)

    @property
    def drawing(self) -> Markup:
        return Markup(_diagram(self.intervals))


def intervals(bins: Mapping[str, Any]) -> tuple[Interval, ...]:
    """Of an entry of ``selection.json``'s reliability, those that hold pixels; records of earlier releases know no mean
    score: the middle of the interval stands for it.
    """
    total = sum(bins["pixels"]) or 1
    edges = list(pairwise(bins["edges"]))
    means = bins.get("mean") or [(low + high) / 2 for low, high in edges]
    found = zip(edges, bins["pixels"], means, bins["right"], strict=True)
    return tuple(Interval(*edge, n / total, mean, right) for edge, n, mean, right in found if n)


def reliabilities(run: RunRecord) -> list[Reliability]:
    """Of every network that made labels, where the target's labels are known and probabilities were among its scores.

    Raises:
        ValueError: a record is damaged.
    """
    titles = {stage.folder: stage.title for stage in run.stages}
    made = []
    for teacher in run.folder.labels.teachers():
        selection = teacher.selection.find()
        bins = ((selection and selection["reliability"]) or {}).get("probability")
        if bins:
            name = teacher.path.name.removeprefix("of-")
            made.append(Reliability(titles.get(name, name), intervals(bins)))
    return made


def _diagram(found: tuple[Interval, ...]) -> str:
    """Accuracy over probability as bars, the gap to the diagonal in the colour of a loss, the pixels' shares below."""
    parts = [f'<svg class="reliability" viewBox="0 0 {SIDE + LEFT + 14} {SIDE + TOP + BELOW}" role="img">']
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = LEFT + SIDE * tick, TOP + SIDE * (1 - tick)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{LEFT + SIDE}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{100 * tick:.0f}</text>'
            f'<text class="tick" x="{x:.1f}" y="{TOP + SIDE + BELOW - 4}" text-anchor="middle">{100 * tick:.0f}</text>'
        )
    most = max((i.share for i in found), default=1.0)
    for i in found:
        left, width = LEFT + SIDE * i.low, SIDE * (i.high - i.low) - 1
        top, bottom = sorted((i.accuracy, i.confidence), reverse=True)
        said = f"{100 * i.confidence:.1f} % sure, {100 * i.accuracy:.1f} % right, {100 * i.share:.1f} % of pixels"
        parts.append(f"<g><title>{said}</title>{_bar(left, width, i.accuracy, 'bar')}")
        parts.append(
            f'<rect class="gap" x="{left:.1f}" y="{TOP + SIDE * (1 - top):.1f}" width="{width:.1f}"'
            f' height="{SIDE * (top - bottom):.1f}"/>'
        )
        height = _STRIP * i.share / most
        parts.append(
            f'<rect class="share" x="{left:.1f}" y="{TOP + SIDE + 4 + _STRIP - height:.1f}" width="{width:.1f}"'
            f' height="{height:.1f}"/></g>'
        )
    parts.append(f'<line class="diagonal" x1="{LEFT}" y1="{TOP + SIDE}" x2="{LEFT + SIDE}" y2="{TOP}"/>')
    return "".join([*parts, "</svg>"])


def _bar(left: float, width: float, height: float, tone: str) -> str:
    return (
        f'<rect class="{tone}" x="{left:.1f}" y="{TOP + SIDE * (1 - height):.1f}" width="{width:.1f}"'
        f' height="{SIDE * height:.1f}"/>'
    )
