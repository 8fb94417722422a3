"""This rank's scored images, to be gone through as often as selection and writing need: from a spool or by a new forward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from esl_dist.pseudo_labels import overlap, spool
from esl_dist.pseudo_labels.keys import Kind
from esl_dist.pseudo_labels.scores import Scorer, check_finite
from esl_dist.pseudo_labels.spool import ShardInfo

OutputSize = Callable[[int], tuple[int, int]]
"""Index of an image to the (height, width) of its pseudo-label."""


class Scored(NamedTuple):
    """One image: label uint8 and float32 scores ``[H, W]``; the logits ``[C, h, w]`` where they are at hand."""

    index: int
    name: str
    label: np.ndarray
    score: dict[Kind, np.ndarray]
    logits: Tensor | None


class ScoredImages(Protocol):
    """Every image of this rank once per iteration; ``high`` is a first-pass histogram that is already known, else None."""

    def __iter__(self) -> Iterator[Scored]: ...

    def high(self, kind: Kind) -> np.ndarray | None: ...


def scored(score: Scorer, index: int, name: str, logits: Tensor, size_hw: tuple[int, int]) -> Scored:
    check_finite(logits, name)
    result = score(logits, size_hw)
    return Scored(index, name, result.label.cpu().numpy(), {"entropy": result.entropy.cpu().numpy(), "probability": result.probability.cpu().numpy()}, logits)


@dataclass(frozen=True)
class SpooledScores:
    """Labels and scores as they were written."""

    shards: Sequence[ShardInfo]
    scores: str
    kinds: tuple[Kind, ...]

    def __iter__(self) -> Iterator[Scored]:
        for shard in self.shards:
            for record in spool.read(shard):
                yield Scored(record.index, record.name, record.arrays["label"], {kind: record.arrays[kind] for kind in self.kinds}, None)

    def high(self, kind: Kind) -> np.ndarray | None:
        return spooled_high(self.shards, kind, self.scores)


@dataclass(frozen=True)
class SpooledLogits:
    """Scores made again from low-resolution logits, at any output size."""

    shards: Sequence[ShardInfo]
    scores: str
    score: Scorer
    size: OutputSize
    device: torch.device

    def _scored(self, record: spool.Record) -> Scored:
        return scored(self.score, record.index, record.name, torch.from_numpy(record.arrays["logits"]).to(self.device), self.size(record.index))

    def __iter__(self) -> Iterator[Scored]:
        records = (record for shard in self.shards for record in spool.read(shard))
        return overlap.overlapped(self._scored, records, overlap.workers())

    def high(self, kind: Kind) -> np.ndarray | None:
        return spooled_high(self.shards, kind, self.scores)


def spooled_high(shards: Sequence[ShardInfo], kind: Kind, scores: str) -> np.ndarray | None:
    """The sum of the files' histograms; None where a file has none of this kind, mode and size (or there is no file)."""
    total: np.ndarray | None = None
    for shard in shards:
        histogram = spool.read_high(shard, kind, scores)
        if histogram is None:
            return None
        total = histogram if total is None else total + histogram
    return total


@dataclass(frozen=True)
class Inferred:
    """No spool: every iteration is a forward over this rank's images."""

    logits: Callable[[], Iterable[tuple[int, Tensor]]]
    names: Sequence[str]
    score: Scorer
    size: OutputSize

    def _scored(self, item: tuple[int, Tensor]) -> Scored:
        index, logits = item
        return scored(self.score, index, self.names[index], logits, self.size(index))

    def __iter__(self) -> Iterator[Scored]:
        return overlap.overlapped(self._scored, self.logits(), overlap.workers())

    def high(self, kind: Kind) -> np.ndarray | None:
        return None
