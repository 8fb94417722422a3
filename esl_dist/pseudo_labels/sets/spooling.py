"""From logits into the spool: this rank's images scored by threads, packed, and written in files that appear whole."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from esl_dist.distributed import collectives
from esl_dist.pseudo_labels.scores.keys import high_bins
from esl_dist.pseudo_labels.scores.kinds import Kind
from esl_dist.pseudo_labels.scores.scorer import Scores, Wanted, empty, shaped
from esl_dist.pseudo_labels.sets import parallel, spool
from esl_dist.pseudo_labels.sets.images import Readout

REPORT_EVERY_S = 5.0
Logits = Iterable[tuple[int, Tensor]]


class Progress:
    """A line every few seconds: images, images per second, time left where the total is known, bytes spooled, all of
    this rank.
    """

    def __init__(self, total: int | None, report: Callable[[str], None]) -> None:
        self.total, self.report = total, report
        self.started = self.last = time.monotonic()
        self.done = self.bytes = 0

    def step(self, stored: int) -> None:
        """One more image; ``stored`` bytes in all."""
        self.done += 1
        self.bytes = stored
        now = time.monotonic()
        if now - self.last >= REPORT_EVERY_S or self.done == self.total:
            self.last = now
            rate = self.done / max(now - self.started, 1e-9)
            ranks = f" on each of {collectives.world()} ranks" if collectives.world() > 1 else ""
            known = "" if self.total is None else f"/{self.total}"
            left = "" if self.total is None else f", {(self.total - self.done) / rate:.0f} s left"
            self.report(
                f"inference: {self.done}{known} images{ranks}, {rate:.1f} images/s{left}, {self.bytes / 1e6:.1f} "
                "MB spooled"
            )


def require_space(folder: Path, needed: int) -> None:
    """``ValueError`` with the bytes that are missing, before the first forward."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"extract.spool: {needed} bytes ({needed / 1e9:.1f} GB) are needed in {folder}, {free} ({free / 1e9:.1f} "
            "GB) are free; "
            "set extract.spool_dir or extract.spool=none"
        )


def bytes_per_image(
    content: spool.Content, size_hw: tuple[int, int], logits_shape: tuple[int, int, int], kinds: int
) -> int:
    """An upper bound of what one image takes on disk."""
    if content == "logits":
        return 4 * int(np.prod(logits_shape)) + 4096
    return size_hw[0] * size_hw[1] * (1 + 4 * kinds) + 4096


@dataclass
class Spooling:
    """Writes images into one folder: what all of them have in common."""

    folder: Path
    layout: spool.Layout
    readout: Readout
    names: Sequence[str]
    shard: int
    """Images per file."""
    progress: Progress
    stored: int = field(default=0, init=False)
    memory: Memory = field(init=False)

    def __post_init__(self) -> None:
        self.memory = Memory(self.readout.num_classes, self.readout.kinds)

    def images(self, logits: Logits) -> Generator[None, None, None]:
        """Spool these images in new files, one image a piece; whatever file was not finished when a run died is made
        again.
        """
        rank = collectives.rank()
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(".rank*.tmp"):  # of a run that died, perhaps with more ranks
            if int(leftover.name[5:9]) % collectives.world() == rank:
                leftover.unlink(missing_ok=True)
        serial = 1 + max(
            (int(path.stem.split("-")[1]) for path in self.folder.glob(f"rank{rank:04d}-*.h5")), default=-1
        )
        writer: spool.ShardWriter | None = None
        files = 0
        try:
            for made in self._made(logits, self.shard):
                writer = writer or spool.ShardWriter(
                    self.folder / f"rank{rank:04d}-{serial + files:05d}.h5", self.layout
                )
                self.stored += writer.add(made.id, self.names[made.id], self.readout.size(made.id), made.packed)
                self._finish(made)
                if len(writer.images) == self.shard:
                    writer.close(self.memory.counts(files))
                    writer, files = None, files + 1
                yield
            if writer is not None:
                writer.close(self.memory.counts(files))
                writer = None
        finally:
            if writer is not None:
                writer.abandon()

    def missing(
        self, shards: Sequence[spool.ShardInfo], logits_of: Callable[[Sequence[int]], Logits]
    ) -> Generator[None, None, None]:
        """Add to files of scores what ``readout`` and ``layout`` name and they lack, one image a piece."""
        for shard in shards:
            packed: dict[int, dict[str, np.ndarray]] = {}
            for made in self._made(logits_of(shard.ids), len(shard.ids)):
                packed[made.id] = {key: array.copy() for key, array in made.packed.items()}  # its memory is used again
                self._finish(made)
                yield
            self.stored += spool.extend(shard, self.layout, packed, self.memory.counts(0))

    def _made(self, logits: Logits, file: int) -> Iterator[_Made]:
        """The images scored and packed in order by worker threads, ``file`` of them sharing a histogram."""
        readout, kinds = self.readout, self.readout.kinds

        def work(item: tuple[int, tuple[int, Tensor]]) -> _Made:
            position, (index, image) = item
            size = readout.size(index)
            held = self.memory.take(size) if image.device.type == "cpu" else None
            with self.memory.counting(position // file, image.device) as high:
                out = None if held is None else shaped(held, size)
                result = readout.scoring.checked(self.names[index], image, Wanted(size, kinds, high, out))
            if self.layout.content == "logits":
                return _Made(index, spool.pack({"logits": image.cpu().numpy()}), held)
            maps = {str(kind): values.cpu().numpy() for kind, values in result.maps.items()}
            return _Made(index, spool.pack({"label": result.label.cpu().numpy(), **maps}), held)

        return parallel.overlapped(work, enumerate(logits), parallel.workers())

    def _finish(self, made: _Made) -> None:
        self.memory.give_back(made.held)
        self.progress.step(self.stored)


class _Made(NamedTuple):
    """One image on its way into the spool, and the memory that it may give back."""

    id: int
    packed: dict[str, np.ndarray]
    held: Scores | None


class Memory:
    """Score maps and histograms that worker threads share by taking turns, never at the same time.

    One for a whole extraction: megabytes that every round asks for anew and gives back leave holes in the heap, and the
    process grows with the number of images although nothing is held.
    """

    def __init__(self, num_classes: int, kinds: Sequence[Kind]) -> None:
        self.num_classes, self.kinds = num_classes, kinds
        self.lock = threading.Lock()
        self.free: list[Scores] = []
        self.idle: dict[int, list[dict[Kind, Tensor]]] = {}
        self.empty: list[dict[Kind, Tensor]] = []

    def take(self, size_hw: tuple[int, int]) -> Scores:
        """Flat maps for at least so many pixels: images of many sizes share them."""
        pixels = size_hw[0] * size_hw[1]
        with self.lock:
            held = self.free.pop() if self.free else None
        return held if held is not None and held.label.numel() >= pixels else empty((pixels,), self.kinds)

    def give_back(self, scores: Scores | None) -> None:
        if scores is not None:
            with self.lock:
                self.free.append(scores)

    @contextmanager
    def counting(self, file: int, device: torch.device) -> Iterator[dict[Kind, Tensor]]:
        """Histograms of one spool file that no other thread is adding to."""
        with self.lock:
            waiting = self.idle.setdefault(file, [])
            high = (waiting or self.empty).pop() if waiting or self.empty else None
        if high is None:
            high = {
                kind: torch.zeros(self.num_classes, high_bins(kind), dtype=torch.int64, device=device)
                for kind in self.kinds
            }
        yield high
        with self.lock:
            self.idle[file].append(high)

    def counts(self, file: int) -> dict[Kind, np.ndarray]:
        """The sum over the threads, once all images of the file are in it; they start the next file from zero."""
        with self.lock:
            parts = self.idle.pop(file)
        for part in parts[1:]:
            for kind in self.kinds:
                parts[0][kind] += part[kind]
        total = {kind: parts[0][kind].cpu().numpy().copy() for kind in self.kinds}
        for part in parts:
            for histogram in part.values():
                histogram.zero_()
        with self.lock:
            self.empty += parts
        return total
