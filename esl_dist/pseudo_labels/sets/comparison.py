"""Every confidence beside every other, judged by ground truth: how many labels are wrong among the surest pixels.

Counts alone, so any number of ranks gives the same figures: per class, the pixels of every digit of doubt and how many
of them are right. Doubt is entropy, 1 - p, 1 - margin, or the margin of logits from its far end; a digit is under 1 %
of it. Between two digits figures are interpolated.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from esl_dist.distributed.in_step import Stop, in_step, never
from esl_dist.labels import IGNORE
from esl_dist.pseudo_labels.scores.keys import count_high, high_bins, keys
from esl_dist.pseudo_labels.scores.kinds import KINDS, TITLES, Kind
from esl_dist.pseudo_labels.sets.forward import Forward, TargetImages, logits_of
from esl_dist.pseudo_labels.sets.images import Readout
from esl_dist.pseudo_labels.sets.views import Views
from esl_dist.pseudo_labels.thresholds.radix import sum_over_ranks

COVERAGES = tuple(n / 20 for n in range(1, 21))
"""Shares of all pixels that are kept by one threshold."""
VIEWS = (Views(), Views(mirror=True), Views(mirror=True, scales=(1.0, 0.75, 1.25)))


@dataclass
class Counts:
    """Pixels that have ground truth, and the right ones of them, per class and digit of doubt; int64 ``[C, bins]``."""

    kind: Kind
    num_classes: int
    pixels: np.ndarray = field(init=False)
    right: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.num_classes, high_bins(self.kind))
        self.pixels, self.right = np.zeros(shape, np.int64), np.zeros(shape, np.int64)

    def add(self, label: np.ndarray, score: np.ndarray, truth: np.ndarray) -> None:
        """One image: label uint8, the confidence float32, ground truth uint8 (255: none), each ``[H, W]``."""
        known = truth != IGNORE
        doubt = score if self.kind in ("entropy", "logit_margin") else np.maximum(np.float32(1) - score, np.float32(0))
        key = keys(doubt)
        count_high(self.pixels, label[known], key[known])
        count_high(self.right, label[label == truth], key[label == truth])

    def from_the_surest(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and wrong ones of every digit, int64 ``[C, bins]``, the surest first."""
        pixels, wrong = self.pixels, self.pixels - self.right
        return (pixels[:, ::-1], wrong[:, ::-1]) if self.kind == "logit_margin" else (pixels, wrong)


def wrong_at(pixels: np.ndarray, wrong: np.ndarray, shares: Sequence[float]) -> list[float | None]:
    """Share of wrong pixels among the surest ``shares`` of all, 0-1; None where there is none. ``[bins]`` each."""
    total, bad = np.cumsum(pixels), np.cumsum(wrong)
    if not total[-1]:
        return [None] * len(shares)
    kept = np.array(shares) * total[-1]
    found = np.interp(kept, np.concatenate([[0], total]), np.concatenate([[0], bad])) / kept
    return [float(value) for value in found]


def figures(counts: Counts, views: Views) -> dict[str, Any]:
    """What one confidence does: wrong labels at every coverage by one threshold, and with half of every class kept."""
    pixels, wrong = counts.from_the_surest()
    half_wrong = half_kept = 0.0
    for c in range(counts.num_classes):
        share = wrong_at(pixels[c], wrong[c], [0.5])[0]
        if share is not None:
            half_kept += pixels[c].sum() / 2
            half_wrong += share * pixels[c].sum() / 2
    title = TITLES[counts.kind] + ("" if views.plain else f", mean over {views}")
    return {
        "title": title,
        "confidence": counts.kind,
        "views": "" if views.plain else str(views),
        "forwards": views.forwards,
        "coverage": list(COVERAGES),
        "wrong": wrong_at(pixels.sum(0), wrong.sum(0), COVERAGES),
        "wrong_half_of_every_class": half_wrong / half_kept if half_kept else None,
    }


@dataclass(frozen=True)
class Comparison:
    """The images that confidences are compared on, and how."""

    images: TargetImages
    truth: Callable[[int, tuple[int, int]], np.ndarray]
    """Index of an image and (height, width) to its ground truth, uint8, 255 where there is none."""
    readout: Readout
    """Of all confidences."""
    views: Sequence[Views] = VIEWS
    stop: Stop = never

    def __call__(self, forward: Forward, mine: Sequence[int]) -> list[dict[str, Any]]:
        """Figures of every confidence under every view, the fewest wrong labels at half coverage first. Collective.

        Args:
            mine: this rank's share of the images.
        """
        found = []
        for views in self.views:
            counts = [Counts(kind, self.readout.num_classes) for kind in KINDS]
            in_step(self._count(counts, logits_of(views.through(forward), self.images, mine)), self.stop)
            for one in counts:
                sum_over_ranks(one.pixels)
                sum_over_ranks(one.right)
                found.append(figures(one, views))
        half = COVERAGES.index(0.5)
        return sorted(found, key=lambda entry: np.inf if entry["wrong"][half] is None else entry["wrong"][half])

    def _count(self, counts: Sequence[Counts], logits: Iterable[tuple[int, Tensor]]) -> Generator[None, None, None]:
        for index, image in logits:
            scored = self.readout.scored(index, self.images.names[index], image)
            truth = self.truth(index, (scored.label.shape[0], scored.label.shape[1]))
            for one in counts:
                one.add(scored.label, scored.score[one.kind], truth)
            yield


def table(found: Sequence[dict[str, Any]], about: str) -> str:
    """As text: wrong labels in % at 50, 60, 70 % of all pixels and with half of every class kept."""
    width = max(len(entry["title"]) for entry in found) + 2
    lines = [f"confidences compared on {about}; wrong labels in % among the kept:"]
    lines.append(f"  {'confidence':<{width}}{'50 %':>8}{'60 %':>8}{'70 %':>8}{'all':>8}{'half of every class':>21}")
    for entry in found:
        values = [entry["wrong"][COVERAGES.index(share)] for share in (0.5, 0.6, 0.7, 1.0)]
        numbers = "".join("       –" if value is None else f"{100 * value:8.2f}" for value in values)
        half = entry["wrong_half_of_every_class"]
        lines.append(
            f"  {entry['title']:<{width}}{numbers}" + (f"{'–':>21}" if half is None else f"{100 * half:21.2f}")
        )
    return "\n".join(lines)
