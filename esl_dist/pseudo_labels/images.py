"""This rank's scored images, to be gone through as often as selection and writing need: from a spool or by a new
forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from esl_dist.pseudo_labels import overlap, spool
from esl_dist.pseudo_labels.counting import ScoreError
from esl_dist.pseudo_labels.keys import Kind
from esl_dist.pseudo_labels.scores import Histograms, Scorer, Scores, check_finite
from esl_dist.pseudo_labels.spool import ShardInfo

OutputSize = Callable[[int], tuple[int, int]]
"""Index of an image to the (height, width) of its pseudo-label."""


class Scored(NamedTuple):
    """One image: label uint8 and float32 scores ``[H, W]``; the logits ``[C, h, w]`` where they are at hand."""

    id: int
    name: str
    label: np.ndarray
    score: dict[Kind, np.ndarray]
    logits: Tensor | None

    def key(self, kind: Kind) -> np.ndarray:
        """uint32 keys: the scores are finite and 0 or more, so their bits are the keys."""
        return self.score[kind].view(np.uint32)


class ScoredImages(Protocol):
    """Every image of this rank once per iteration."""

    costly: bool
    """Whether an iteration runs the network."""

    def __iter__(self) -> Iterator[Scored]: ...

    def high(self, kind: Kind) -> np.ndarray | None:
        """The first-pass histogram of all these images, where it is known already."""

    def within(self, ids: range) -> ScoredImages:
        """Those of them whose id is in the range."""


def named_scores(
    score: Scorer,
    name: str,
    logits: Tensor,
    size_hw: tuple[int, int],
    high: Histograms | None = None,
    out: Scores | None = None,
) -> Scores:
    """``score`` with the image's name in whatever it refuses."""
    check_finite(logits, name)
    try:
        return score(logits.contiguous(), size_hw, high, out)
    except ScoreError as error:
        raise ScoreError(f"{name}: {error}") from error


def scored(score: Scorer, index: int, name: str, logits: Tensor, size_hw: tuple[int, int]) -> Scored:
    result = named_scores(score, name, logits, size_hw)
    return Scored(
        index,
        name,
        result.label.cpu().numpy(),
        {"entropy": result.entropy.cpu().numpy(), "probability": result.probability.cpu().numpy()},
        logits,
    )


class Verified:
    """The files whose checksums have been compared once: later passes over them read faster."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()

    def read(self, shard: ShardInfo, wanted: Sequence[str]) -> Iterator[spool.Record]:
        yield from spool.read(shard, wanted, verify=shard.path not in self.paths)
        self.paths.add(shard.path)


@dataclass(frozen=True)
class SpooledScores:
    """Labels and scores as they were written."""

    shards: Sequence[ShardInfo]
    scores: str
    kinds: tuple[Kind, ...]
    ids: range
    verified: Verified = field(default_factory=Verified)
    costly = False

    def __iter__(self) -> Iterator[Scored]:
        for shard in self.shards:
            for record in self.verified.read(shard, ("label", *self.kinds)):
                if record.id in self.ids:
                    yield Scored(
                        record.id,
                        record.name,
                        record.arrays["label"],
                        {kind: record.arrays[kind] for kind in self.kinds},
                        None,
                    )

    def high(self, kind: Kind) -> np.ndarray | None:
        return spooled_high(self.shards, kind, self.scores, self.ids)

    def within(self, ids: range) -> SpooledScores:
        return replace(self, shards=overlapping(self.shards, ids), ids=ids)


@dataclass(frozen=True)
class SpooledLogits:
    """Scores made again from low-resolution logits, at any output size."""

    shards: Sequence[ShardInfo]
    scores: str
    score: Scorer
    size: OutputSize
    device: torch.device
    ids: range
    verified: Verified = field(default_factory=Verified)
    costly = False

    def _scored(self, record: spool.Record) -> Scored:
        return scored(
            self.score,
            record.id,
            record.name,
            torch.from_numpy(record.arrays["logits"]).to(self.device),
            self.size(record.id),
        )

    def __iter__(self) -> Iterator[Scored]:
        records = (
            record
            for shard in self.shards
            for record in self.verified.read(shard, ("logits",))
            if record.id in self.ids
        )
        return overlap.overlapped(self._scored, records, overlap.workers())

    def high(self, kind: Kind) -> np.ndarray | None:
        return spooled_high(self.shards, kind, self.scores, self.ids)

    def within(self, ids: range) -> SpooledLogits:
        return replace(self, shards=overlapping(self.shards, ids), ids=ids)


def overlapping(shards: Sequence[ShardInfo], ids: range) -> list[ShardInfo]:
    return [shard for shard in shards if any(index in ids for index in shard.ids)]


def spooled_high(shards: Sequence[ShardInfo], kind: Kind, scores: str, ids: range) -> np.ndarray | None:
    """The sum of the files' histograms; None where a file has none of this kind, mode and size, or holds other images
    too.
    """
    total: np.ndarray | None = None
    for shard in shards:
        histogram = spool.read_high(shard, kind, scores) if all(index in ids for index in shard.ids) else None
        if histogram is None:
            return None
        if total is None:
            total = histogram
        else:
            total += histogram
    return total


@dataclass(frozen=True)
class Inferred:
    """No spool: every iteration is a forward over this rank's images."""

    forward: Callable[[Sequence[int]], Iterable[tuple[int, Tensor]]]
    mine: Sequence[int]
    names: Sequence[str]
    score: Scorer
    size: OutputSize
    canary: str
    """Hash of the canary's logits before the first forward."""
    costly = True

    def _scored(self, item: tuple[int, Tensor]) -> Scored:
        index, logits = item
        return scored(self.score, index, self.names[index], logits, self.size(index))

    def __iter__(self) -> Iterator[Scored]:
        return overlap.overlapped(self._scored, self.forward(self.mine), overlap.workers())

    def high(self, kind: Kind) -> np.ndarray | None:
        return None

    def within(self, ids: range) -> Inferred:
        return replace(self, mine=[index for index in self.mine if index in ids])
