"""What the loop and the optimisers ask of a training step; they know no method."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from esl_dist.data.loader import Batch

Losses = dict[str, Tensor]
"""A step's figures by name, 0-dim on the device. One with a path (``modes/within``) is no loss."""


class Pair(NamedTuple):
    """One micro-batch: labelled source images and target images (None for a step that sees no target)."""

    source: Batch
    target: Batch | None


class TrainStep(Protocol):
    """A method's algorithm box: its networks (as wrapped, by checkpoint name), the gradients of one optimiser step."""

    @property
    def networks(self) -> Mapping[str, nn.Module]: ...

    @property
    def needs_target(self) -> bool: ...

    def step(self, micro: Sequence[Pair]) -> Losses: ...


@runtime_checkable
class Carries(Protocol):
    """A step with networks that no optimiser moves and that a checkpoint must hold all the same, such as a teacher."""

    @property
    def carried(self) -> Mapping[str, nn.Module]: ...


@runtime_checkable
class DeviceAlone(Protocol):
    """A step that can say whether the device takes it alone, as a captured one must be."""

    @property
    def host_work(self) -> str:
        """What the host decides within a step (draws, numbers, waits), in words; empty: nothing."""

    @property
    def unmeasured(self) -> str:
        """What of it no GPU has shown captured yet, in words: captured on demand alone; empty: nothing."""


@runtime_checkable
class Prepares(Protocol):
    """A step in two halves, ``step(micro)`` being ``take(micro, prepare(micro))``: what the host draws or decides for
    it, and the rest, which reads nothing of the host's that changes from step to step.
    """

    def prepare(self, micro: Sequence[Pair]) -> Any:
        """Nested tuples and lists with tensors on the device; what is no tensor must be the same in every step."""

    def take(self, micro: Sequence[Pair], prepared: Any) -> Losses: ...


@runtime_checkable
class Changes(Protocol):
    """A step that changes tensors in place beside its networks."""

    def changed(self) -> Sequence[Tensor]: ...


@runtime_checkable
class Remembers(Protocol):
    """A step whose next one depends on more than its networks and its batches; both methods are called by all ranks."""

    def memory(self) -> dict[str, Tensor]: ...

    def recall(self, memory: Mapping[str, Tensor]) -> None: ...


@dataclass
class Streams:
    """Endless micro-batches of the two domains, already at the right position."""

    source: Iterator[Batch]
    target: Iterator[Batch] | None
    close: Callable[[], None]

    def next(self) -> Pair:
        return Pair(next(self.source), None if self.target is None else next(self.target))
