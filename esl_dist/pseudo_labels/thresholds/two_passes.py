"""The two passes of selection over scored images, for any number of rules at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import Stop, in_step, never
from esl_dist.pseudo_labels.scores.keys import count_high, high_bins
from esl_dist.pseudo_labels.scores.kinds import Kind
from esl_dist.pseudo_labels.scores.scored import Scored, ScoredImages
from esl_dist.pseudo_labels.thresholds.counting import Cells, count_low
from esl_dist.pseudo_labels.thresholds.radix import locate, order_statistics, sum_over_ranks
from esl_dist.pseudo_labels.thresholds.reduced import Reduced, substitutes
from esl_dist.pseudo_labels.thresholds.rules import Thresholds, bound_key, kind_of, relabels, thresholds, wanted_ranks


def first_pass(
    images: ScoredImages, kinds: Sequence[Kind], num_classes: int, stop: Stop = never
) -> dict[Kind, np.ndarray]:
    """Histograms of the upper digits, int64 ``[C, bins]`` per confidence, over all ranks. Collective."""
    known = collectives.agree(lambda: {kind: images.high(kind) for kind in kinds})
    missing = [kind for kind, histogram in known.items() if histogram is None]
    high = {
        kind: np.zeros((num_classes, high_bins(kind)), np.int64) if histogram is None else histogram
        for kind, histogram in known.items()
    }

    def count() -> Generator[None, None, None]:
        for image in images if missing else ():
            for kind in missing:
                count_high(high[kind], image.label.reshape(-1), image.key(kind).reshape(-1))
            yield

    in_step(count(), stop)
    for kind in kinds:
        sum_over_ranks(high[kind])
    return high


@runtime_checkable
class CountsItself(Protocol):
    """Images that make the second pass's histograms where they are, without their scores coming to the host."""

    def low(self, cells: Mapping[Kind, Cells]) -> Mapping[Kind, np.ndarray]:
        """int64 ``[slots, LOW_BINS]`` per confidence, of this rank's images."""


class Selected(NamedTuple):
    """A setting's thresholds each, the first pass's histograms over all ranks, and what is left to decide where it was
    kept.
    """

    thresholds: list[Thresholds]
    high: dict[Kind, np.ndarray]
    rest: Reduced | None


@dataclass(frozen=True)
class Choice:
    """Each setting's thresholds per window of images, the images to write from, and the whole set's histograms."""

    windows: list[list[Thresholds]]
    readable: Iterable[Scored]
    high: dict[Kind, np.ndarray]

    @property
    def judgeable(self) -> bool:
        """Whether what is to be written from still has scores; reduced keys compare with thresholds, but are no scores
        any more.
        """
        return not isinstance(self.readable, Reduced)


@dataclass(frozen=True)
class Selection:
    """What is to be selected, and how the passes may go about it."""

    settings: Sequence[PseudoLabelConfig]
    num_classes: int
    portion_round: int = 0
    """Round of self-training, 0-based: CBST's portion grows with it."""
    scores: bool = False
    """Whether the labels are written from images that still have their scores, at the price of one more forward where
    nothing was spooled.
    """

    @property
    def kinds(self) -> list[Kind]:
        return sorted({kind_of(setting) for setting in self.settings})

    def of(self, positions: Sequence[int]) -> Selection:
        return replace(self, settings=[self.settings[position] for position in positions])

    def located(self, setting: PseudoLabelConfig, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bin of the order statistic per class, int64 ``[C]``, and the rank inside it: per class, or one over all
        classes.
        """
        counts = high.sum(1)
        if setting.scope == "class":
            return locate(high, wanted_ranks(setting, counts, self.portion_round))
        bins, rest = locate(
            high.sum(0, keepdims=True), wanted_ranks(setting, counts.sum(keepdims=True), self.portion_round)
        )
        return np.repeat(bins, len(high)), rest

    def found(
        self, setting: PseudoLabelConfig, low: np.ndarray, cells: Cells, located: tuple[np.ndarray, np.ndarray]
    ) -> np.ndarray:
        """Keys of the order statistic, int64 ``[C]``, -1 where there is none."""
        bins, rest = located
        if setting.scope == "class" or bins[0] < 0:
            return order_statistics(low, cells, bins, rest)
        rows = low[cells.slot[:, bins[0]]].sum(0, keepdims=True)
        digit, _ = locate(rows, rest)
        return np.repeat((bins[:1] << 16) | digit, len(bins))


def select(images: ScoredImages, wanted: Selection, reduce: bool = False, stop: Stop = never) -> Selected:
    """Exact thresholds of every setting over the images of all ranks, in two passes for all of them together.
    Collective.

    With ``reduce`` the second pass also keeps what is left to decide of every image, so that writing needs no third
    one.
    """
    settings, kinds = wanted.settings, wanted.kinds
    high = first_pass(images, kinds, wanted.num_classes, stop)
    counts = high[kinds[0]].sum(1)
    located = [wanted.located(setting, high[kind_of(setting)]) for setting in settings]
    bins = {
        kind: [b for (b, _), setting in zip(located, settings, strict=True) if kind_of(setting) == kind]
        for kind in kinds
    }
    cells = {kind: Cells.of(np.stack(bins[kind]), high_bins(kind)) for kind in kinds}
    low = {kind: cells[kind].empty() for kind in kinds}
    rest = None
    if reduce:
        bounds = {
            kind: [key for s in settings if kind_of(s) == kind and (key := bound_key(s)) is not None] for kind in kinds
        }
        rest = Reduced(
            {kind: substitutes(bins[kind], bounds[kind], wanted.num_classes, high_bins(kind)) for kind in kinds}
        )

    def second_pass() -> Generator[None, None, None]:
        for image in images:
            for kind in kinds:
                count_low(low[kind], cells[kind], image.label, image.key(kind))
            if rest is not None:
                rest.add(image)
            yield

    if isinstance(images, CountsItself) and rest is None:
        low = dict(collectives.agree(lambda: images.low(cells)))
    else:
        in_step(second_pass(), stop)
    for kind in kinds:
        sum_over_ranks(low[kind])
    found = [
        wanted.found(s, low[kind_of(s)], cells[kind_of(s)], place) for place, s in zip(located, settings, strict=True)
    ]
    return Selected(
        [
            thresholds(setting, counts, np.where(counts > 0, key, -1))
            for setting, key in zip(settings, found, strict=True)
        ],
        high,
        rest,
    )


def choose(
    images: ScoredImages,
    wanted: Selection,
    number: int,
    stop: Stop = never,
    report: Callable[[str], None] = lambda line: None,
) -> Choice:
    """Thresholds of every setting over the ``number`` images of all ranks, one per window of images. Collective.

    ``window: N`` takes medians over N images in a row, as the published code does for lack of memory. Its last,
        incomplete window counts there the rows that were never filled as class 0 with entropy 0; here it holds its own
        images only.
    """
    started, settings = time.monotonic(), wanted.settings
    reduce = (
        images.costly
        and not wanted.scores
        and all(setting.window == 0 and not relabels(setting) for setting in settings)
    )
    readable: Iterable[Scored] = images
    chosen: list[list[Thresholds]] = [[] for _ in settings]
    high: dict[Kind, np.ndarray] = {}
    for window in sorted({setting.window for setting in settings}):
        group = [position for position, setting in enumerate(settings) if setting.window == window]
        length = window or number
        whole: dict[Kind, np.ndarray] = {}
        for start in range(0, number, length):
            part = images if length >= number else images.within(range(start, min(start + length, number)))
            found = select(part, wanted.of(group), reduce, stop)
            readable = found.rest or readable
            for kind, counts in found.high.items():
                whole[kind] = whole[kind] + counts if kind in whole else counts
            for position, limits in zip(group, found.thresholds, strict=True):
                chosen[position].append(limits)
        high.update(whole)
    report(f"thresholds: {time.monotonic() - started:.1f} s")
    return Choice(chosen, readable, high)
