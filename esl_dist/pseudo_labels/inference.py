"""The forward over this rank's share of the target set: reproducible, and into the spool."""

from __future__ import annotations

import hashlib
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from esl_dist.distributed import collectives
from esl_dist.pseudo_labels import overlap, spool
from esl_dist.pseudo_labels.images import OutputSize, named_scores
from esl_dist.pseudo_labels.keys import HIGH_BINS, Kind
from esl_dist.pseudo_labels.scores import Scorer, Scores, empty, shaped

Forward = Callable[[Tensor], Tensor]
REPORT_EVERY_S = 5.0


@dataclass(frozen=True)
class TargetImages:
    """The images that labels are made for, in an order that all ranks share.

    ``batches(indices)`` yields ``(indices, uint8 [batch, 3, H, W])`` at ``input_size`` (width, height), every batch
    padded with zeros to the same shape. ``output_size`` gives an image its own (height, width); None takes
    ``extract.size`` for all.
    """

    names: Sequence[str]
    batches: Callable[[Sequence[int]], Iterable[tuple[Sequence[int], Tensor]]]
    input_size: tuple[int, int]
    output_size: OutputSize | None = None
    cut: Callable[[int, Tensor], Tensor] = lambda index, logits: logits
    """The part of an image's logits ``[C, h, w]`` that is the image, where its batch holds it padded."""


def canary_image(size: tuple[int, int]) -> Tensor:
    """A fixed uint8 image ``[3, H, W]`` of blocks and noise for a (width, height)."""
    width, height = size
    generator = np.random.RandomState(20_211)
    blocks = (
        generator.randint(0, 256, (3, -(-height // 16), -(-width // 16)))
        .repeat(16, 1)
        .repeat(16, 2)[:, :height, :width]
    )
    return torch.from_numpy(np.clip(blocks + generator.randint(-20, 21, blocks.shape), 0, 255).astype(np.uint8))


def canary(forward: Forward, batch: int, size: tuple[int, int]) -> tuple[str, tuple[int, int, int]]:
    """Hash and shape ``[C, h, w]`` of the canary's logits; ``ValueError`` where they depend on the slot of
    the batch.
    """
    logits = forward(canary_image(size).expand(batch, -1, -1, -1).contiguous()).detach().float().cpu()
    hashes = {hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest() for image in logits}
    if len(hashes) > 1:
        raise ValueError(
            "the logits of one image depend on its place in the batch on this device, so labels would depend on the"
            " split; set extract.batch=1"
        )
    _, channels, height, width = logits.shape
    return hashes.pop()[:16], (channels, height, width)


def logits_of(forward: Forward, source: TargetImages, indices: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """``(index, float32 logits [C, h, w])`` of the given images."""
    if not indices:
        return
    for real, images in source.batches(indices):
        logits = forward(images).detach().float()
        for slot, index in enumerate(real):
            yield int(index), source.cut(int(index), logits[slot])


class Progress:
    """A line every few seconds: images, images per second, time left where the total is known, bytes spooled, all of
    this rank.
    """

    def __init__(self, total: int | None, report: Callable[[str], None]) -> None:
        self.total, self.report = total, report
        self.started = self.last = time.monotonic()
        self.done = self.bytes = 0

    def step(self, stored: int) -> None:
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
                f"inference: {self.done}{known} images{ranks}, {rate:.1f} images/s{left}, {self.bytes / 1e6:.1f} MB"
                " spooled"
            )


def require_space(folder: Path, needed: int) -> None:
    """``ValueError`` with the bytes that are missing, before the first forward."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ValueError(
            f"extract.spool: {needed} bytes ({needed / 1e9:.1f} GB) are needed in {folder}, {free} ({free / 1e9:.1f}"
            " GB) are free; set extract.spool_dir or extract.spool=none"
        )


def bytes_per_image(
    content: spool.Content, size_hw: tuple[int, int], logits_shape: tuple[int, int, int], kinds: int
) -> int:
    if content == "logits":
        return 4 * int(np.prod(logits_shape)) + 4096
    return size_hw[0] * size_hw[1] * (1 + 4 * kinds) + 4096


def infer(
    logits: Iterable[tuple[int, Tensor]],
    names: Sequence[str],
    folder: Path,
    layout: spool.Layout,
    *,
    score: Scorer,
    size: OutputSize,
    kinds: Sequence[Kind],
    shard: int,
    progress: Progress,
    memory: Memory,
) -> Generator[None, None, None]:
    """Spool this rank's images, one a piece; whatever file was not finished when a run died is made again."""
    rank = collectives.rank()
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".rank*.tmp"):  # of a run that died, perhaps with more ranks
        if int(leftover.name[5:9]) % collectives.world() == rank:
            leftover.unlink(missing_ok=True)
    serial = 1 + max((int(path.stem.split("-")[1]) for path in folder.glob(f"rank{rank:04d}-*.h5")), default=-1)

    def work(item: tuple[int, tuple[int, Tensor]]) -> _Made:
        position, (index, image_logits) = item
        held = memory.take(size(index)) if image_logits.device.type == "cpu" else None
        with memory.counting(position // shard, image_logits.device) as high:
            out = None if held is None else shaped(held, size(index))
            result = named_scores(score, names[index], image_logits, size(index), high, out)
        if layout.content == "logits":
            return _Made(index, spool.pack({"logits": image_logits.cpu().numpy()}), held)
        return _Made(
            index,
            spool.pack(
                {"label": result.label.cpu().numpy(), **{kind: result.of(kind).cpu().numpy() for kind in kinds}}
            ),
            held,
        )

    writer: spool.ShardWriter | None = None
    stored, files = 0, 0
    try:
        for made in overlap.overlapped(work, enumerate(logits), overlap.workers()):
            writer = writer or spool.ShardWriter(folder / f"rank{rank:04d}-{serial + files:05d}.h5", layout)
            stored += writer.add(made.id, names[made.id], size(made.id), made.packed)
            memory.give_back(made.held)
            progress.step(stored)
            if len(writer.images) == shard:
                writer.close(memory.counts(files))
                writer, files = None, files + 1
            yield
        if writer is not None:
            writer.close(memory.counts(files))
            writer = None
    finally:
        if writer is not None:
            writer.abandon()


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
        return held if held is not None and held.label.numel() >= pixels else empty((pixels,))

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
                kind: torch.zeros(self.num_classes, HIGH_BINS, dtype=torch.int64, device=device) for kind in self.kinds
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
