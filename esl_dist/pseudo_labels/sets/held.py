"""The logits of a whole set in the memory of the device: a spool without files, from which both passes of selection
are counted where the logits are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from esl_dist.pseudo_labels.scores.keys import high_bins
from esl_dist.pseudo_labels.scores.kinds import Kind
from esl_dist.pseudo_labels.scores.scored import Scored
from esl_dist.pseudo_labels.scores.scorer import Wanted, check_finite
from esl_dist.pseudo_labels.sets import parallel
from esl_dist.pseudo_labels.sets.images import Readout
from esl_dist.pseudo_labels.sets.spooling import Progress
from esl_dist.pseudo_labels.thresholds import on_device
from esl_dist.pseudo_labels.thresholds.counting import Cells

SHARE = 0.5
"""Of what is free: scores, forwards and other processes need some too."""


def bytes_of(shape: tuple[int, ...]) -> int:
    """Bytes of one image's float32 logits."""
    return 4 * math.prod(shape)


def room(gib: float, device: torch.device) -> int:
    """Bytes that logits may take on a device; ``gib`` of 0 is half of what is free there."""
    if gib:
        return int(gib * 2**30)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(SHARE * (free + cached))
    return int(SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


@dataclass
class Store:
    """Logits on their way into memory."""

    names: Sequence[str]
    report: Callable[[str], None]
    logits: list[tuple[int, Tensor]] = field(default_factory=list)

    def fill(self, made: Iterable[tuple[int, Tensor]], number: int) -> Generator[None, None, None]:
        """Hold the logits of ``number`` images, one a piece. Nothing waits for the device before the last.

        Raises:
            ValueError: an image's logits are not finite.
        """
        progress, stored = Progress(number, self.report), 0
        sums: list[Tensor] = []
        for index, logits in made:
            self.logits.append((index, logits.clone()))
            sums.append(logits.sum(dtype=torch.float64))
            stored += bytes_of(tuple(logits.shape))
            progress.step(stored)
            yield
        finite = torch.isfinite(torch.stack(sums)).tolist() if sums else []
        for well, (index, logits) in zip(finite, self.logits, strict=True):
            if not well:
                check_finite(logits, self.names[index])


@dataclass(frozen=True)
class Held:
    """This rank's images by their logits in memory; scores are made again in every pass, as from a spool of logits."""

    logits: Sequence[tuple[int, Tensor]]
    names: Sequence[str]
    readout: Readout
    costly = False

    def _scored(self, item: tuple[int, Tensor]) -> Scored:
        index, logits = item
        return self.readout.scored(index, self.names[index], logits)

    def __iter__(self) -> Iterator[Scored]:
        return parallel.overlapped(self._scored, self.logits, parallel.workers())

    def high(self, kind: Kind) -> np.ndarray | None:
        """Counted by the scorer itself; nothing but the sum leaves the device. None where there is no image."""
        if not self.logits:
            return None
        histogram = torch.zeros(
            self.readout.num_classes, high_bins(kind), dtype=torch.int64, device=self.logits[0][1].device
        )
        for index, logits in self.logits:
            self.readout.scoring.score(logits, Wanted(self.readout.size(index), (kind,), {kind: histogram}))
        return histogram.cpu().numpy()

    def low(self, cells: Mapping[Kind, Cells]) -> dict[Kind, np.ndarray]:
        """The second pass: lower digits of the keys in ``cells``, int64 ``[slots, LOW_BINS]`` per confidence."""
        if not self.logits:
            return {kind: wanted.empty() for kind, wanted in cells.items()}
        counting = {kind: on_device.LowDigits(wanted, self.logits[0][1].device) for kind, wanted in cells.items()}
        for index, logits in self.logits:
            found = self.readout.scoring.score(logits, Wanted(self.readout.size(index), tuple(cells)))
            for kind, digits in counting.items():
                digits.add(found.label, found.maps[kind])
        return {kind: digits.histogram() for kind, digits in counting.items()}

    def within(self, ids: range) -> Held:
        return replace(self, logits=[item for item in self.logits if item[0] in ids])
