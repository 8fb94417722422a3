"""The two passes of selection over scored images, for any number of rules at once."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import Stop, in_step, never
from esl_dist.pseudo_labels import counting
from esl_dist.pseudo_labels.counting import Cells
from esl_dist.pseudo_labels.images import Scored, ScoredImages
from esl_dist.pseudo_labels.keys import HIGH_BINS, Kind
from esl_dist.pseudo_labels.reduced import Reduced, substitutes
from esl_dist.pseudo_labels.selection import locate, order_statistics, sum_over_ranks
from esl_dist.pseudo_labels.thresholds import Thresholds, bound_key, kind_of, thresholds, wanted_ranks


def first_pass(
    images: ScoredImages, kinds: Sequence[Kind], num_classes: int, stop: Stop = never
) -> dict[Kind, np.ndarray]:
    """Histograms of the upper digits, int64 ``[C, HIGH_BINS]`` per confidence, over all ranks. Collective."""
    known = collectives.agree(lambda: {kind: images.high(kind) for kind in kinds})
    missing = [kind for kind, histogram in known.items() if histogram is None]
    high = {
        kind: np.zeros((num_classes, HIGH_BINS), np.int64) if histogram is None else histogram
        for kind, histogram in known.items()
    }

    def count() -> Generator[None, None, None]:
        for image in images if missing else ():
            for kind in missing:
                counting.count_high(high[kind], image.label.reshape(-1), image.key(kind).reshape(-1))
            yield

    in_step(count(), stop)
    for kind in kinds:
        sum_over_ranks(high[kind])
    return high


class Selected(NamedTuple):
    """A setting's thresholds each, the first pass's histograms over all ranks, and what is left to decide where it was
    kept.
    """

    thresholds: list[Thresholds]
    high: dict[Kind, np.ndarray]
    rest: Reduced | None


class Choice(NamedTuple):
    """Each setting's thresholds per window of images, the images to write labels from, and the whole set's
    histograms.
    """

    windows: list[list[Thresholds]]
    readable: Iterable[Scored]
    high: dict[Kind, np.ndarray]


def select(
    images: ScoredImages,
    settings: Sequence[PseudoLabelConfig],
    num_classes: int,
    portion_round: int = 0,
    reduce: bool = False,
    stop: Stop = never,
) -> Selected:
    """Exact thresholds of every setting over the images of all ranks, in two passes for all of them together.
    Collective.

    With ``reduce`` the second pass also keeps what is left to decide of every image, so that writing needs no third
    one.
    """
    kinds: list[Kind] = sorted({kind_of(setting) for setting in settings})
    high = first_pass(images, kinds, num_classes, stop)
    counts = high[kinds[0]].sum(1)
    located = [locate(high[kind_of(setting)], wanted_ranks(setting, counts, portion_round)) for setting in settings]
    bins = {
        kind: [b for (b, _), setting in zip(located, settings, strict=True) if kind_of(setting) == kind]
        for kind in kinds
    }
    cells = {kind: Cells.of(np.stack(bins[kind])) for kind in kinds}
    low = {kind: cells[kind].empty() for kind in kinds}
    rest = None
    if reduce:
        bounds = {
            kind: [key for s in settings if kind_of(s) == kind and (key := bound_key(s)) is not None] for kind in kinds
        }
        rest = Reduced({kind: substitutes(bins[kind], bounds[kind], num_classes) for kind in kinds})

    def second_pass() -> Generator[None, None, None]:
        for image in images:
            for kind in kinds:
                counting.count_low(low[kind], cells[kind], image.label, image.key(kind))
            if rest is not None:
                rest.add(image)
            yield

    in_step(second_pass(), stop)
    for kind in kinds:
        sum_over_ranks(low[kind])
    found = [
        order_statistics(low[kind_of(s)], cells[kind_of(s)], b, inside)
        for (b, inside), s in zip(located, settings, strict=True)
    ]
    return Selected(
        [thresholds(setting, counts, key) for setting, key in zip(settings, found, strict=True)], high, rest
    )


def choose(
    images: ScoredImages,
    settings: Sequence[PseudoLabelConfig],
    number: int,
    num_classes: int,
    portion_round: int,
    stop: Stop = never,
    scores: bool = False,
) -> Choice:
    """Thresholds of every setting over the ``number`` images of all ranks, one per window of images. Collective.

    ``window: N`` takes medians over N images in a row, as the published code does for lack of memory. Its last,
    incomplete window counts there the rows that were never filled as class 0 with entropy 0; here it holds its own
    images only. With ``scores`` the images to write from still have them, at the price of one more forward where
    nothing was spooled.
    """
    reduce = (
        images.costly and not scores and all(setting.window == 0 and setting.rule != "cbst" for setting in settings)
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
            found = select(part, [settings[position] for position in group], num_classes, portion_round, reduce, stop)
            readable = found.rest or readable
            for kind, counts in found.high.items():
                whole[kind] = whole[kind] + counts if kind in whole else counts
            for position, limits in zip(group, found.thresholds, strict=True):
                chosen[position].append(limits)
        high.update(whole)
    return Choice(chosen, readable, high)
