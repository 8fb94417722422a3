"""This rank's scored images, to be gone through as often as selection and writing need: from a spool, from memory or by
a new forward.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from esl_dist.pseudo_labels.scores.kinds import Kind
from esl_dist.pseudo_labels.scores.scored import Scored
from esl_dist.pseudo_labels.scores.scorer import Scoring
from esl_dist.pseudo_labels.sets import parallel, spool
from esl_dist.pseudo_labels.sets.forward import OutputSize
from esl_dist.pseudo_labels.sets.spool import ShardInfo


@dataclass(frozen=True)
class Readout:
    """How labels and scores are read out of logits."""

    scoring: Scoring
    size: OutputSize
    kinds: tuple[Kind, ...]
    how: str
    """Mode and output size in words: what a histogram of scores was made with."""
    num_classes: int

    def scored(self, index: int, name: str, logits: Tensor) -> Scored:
        return self.scoring.scored(index, name, logits, self.size(index), self.kinds)


@dataclass(frozen=True)
class Spooled:
    """What a spool holds of this rank's images: scores as they were written, or made again from logits."""

    shards: Sequence[ShardInfo]
    readout: Readout
    device: torch.device
    ids: range
    verified: set[Path] = field(default_factory=set)
    """Files whose checksums have been compared once: later passes over them read faster."""
    costly = False

    def _read(self, shard: ShardInfo) -> Iterator[spool.Record]:
        wanted = ("logits",) if shard.content == "logits" else ("label", *self.readout.kinds)
        for record in spool.read(shard, wanted, verify=shard.path not in self.verified):
            if record.id in self.ids:
                yield record
        self.verified.add(shard.path)

    def _scored(self, record: spool.Record) -> Scored:
        if "logits" in record.arrays:
            return self.readout.scored(
                record.id, record.name, torch.from_numpy(record.arrays["logits"]).to(self.device)
            )
        return Scored(
            record.id,
            record.name,
            record.arrays["label"],
            {kind: record.arrays[kind] for kind in self.readout.kinds},
            None,
        )

    def __iter__(self) -> Iterator[Scored]:
        records = (record for shard in self.shards for record in self._read(shard))
        if all(shard.content == "scores" for shard in self.shards):  # nothing to compute
            return map(self._scored, records)
        return parallel.overlapped(self._scored, records, parallel.workers())

    def high(self, kind: Kind) -> np.ndarray | None:
        """The sum of the files' histograms; None where a file has none of this kind, mode and size, or holds other
        images too.
        """
        total: np.ndarray | None = None
        for shard in self.shards:
            whole = all(index in self.ids for index in shard.ids)
            histogram = spool.read_high(shard, kind, self.readout.how) if whole else None
            if histogram is None:
                return None
            total = histogram if total is None else total + histogram
        return total

    def within(self, ids: range) -> Spooled:
        return replace(
            self, shards=[shard for shard in self.shards if any(index in ids for index in shard.ids)], ids=ids
        )


@dataclass(frozen=True)
class Inferred:
    """No spool: every iteration is a forward over this rank's images."""

    forward: Callable[[Sequence[int]], Iterable[tuple[int, Tensor]]]
    mine: Sequence[int]
    names: Sequence[str]
    readout: Readout
    costly = True

    def _scored(self, item: tuple[int, Tensor]) -> Scored:
        index, logits = item
        return self.readout.scored(index, self.names[index], logits)

    def __iter__(self) -> Iterator[Scored]:
        return parallel.overlapped(self._scored, self.forward(self.mine), parallel.workers())

    def high(self, kind: Kind) -> np.ndarray | None:
        return None

    def within(self, ids: range) -> Inferred:
        return replace(self, mine=[index for index in self.mine if index in ids])
