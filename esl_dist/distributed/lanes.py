"""Two passes over one network at a time, on two streams, with the results of one after the other.

What the passes share is written in the order of the serial step: a batch norm of the second pass waits for the same
layer's of the first, so running statistics take in the first batch before the second; and the second pass's gradients
are made aside and added to the first's afterwards (``ddp.add_gradients``, which is also where several ranks all-reduce
them). In a captured step these waits are edges of the graph.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import nn


class Streams(Protocol):
    """Where the passes run; a test brings its own."""

    def fork(self) -> None:
        """What the second stream does from here on comes after all that the first has been given."""

    def second(self) -> contextlib.AbstractContextManager[Any]:
        """Inside, work goes to the second stream."""

    def join(self) -> None:
        """What the first stream does from here on comes after all that the second has been given."""

    def mark(self, place: nn.Module) -> None:
        """Remember how far the stream of now has been given work, for ``place``."""

    def wait(self, place: nn.Module) -> None:
        """What the stream of now does from here on comes after the mark of ``place``."""


class CudaStreams:
    """CUDA's: the current stream and one beside it."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._side = device, torch.cuda.Stream(device)
        self._marks: dict[nn.Module, torch.cuda.Event] = {}

    def fork(self) -> None:
        self._side.wait_stream(torch.cuda.current_stream(self._device))

    def second(self) -> contextlib.AbstractContextManager[Any]:
        return torch.cuda.stream(self._side)

    def join(self) -> None:
        torch.cuda.current_stream(self._device).wait_stream(self._side)

    def mark(self, place: nn.Module) -> None:
        self._marks.setdefault(place, torch.cuda.Event()).record(torch.cuda.current_stream(self._device))

    def wait(self, place: nn.Module) -> None:
        torch.cuda.current_stream(self._device).wait_event(self._marks[place])


class Lanes:
    """The two passes of a step: ``first``, then ``second``."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    @contextlib.contextmanager
    def first(self, norms: Sequence[nn.Module]) -> Iterator[None]:
        """Around the pass that the serial step makes first; ``norms`` are its batch norms."""
        self._streams.fork()
        hooks = [norm.register_forward_hook(self._mark) for norm in norms]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextlib.contextmanager
    def second(self, norms: Sequence[nn.Module]) -> Iterator[None]:
        """Around the other pass; it must touch no ``.grad``. After it both are done."""
        hooks = [norm.register_forward_pre_hook(self._wait) for norm in norms]
        try:
            with self._streams.second():
                yield
        finally:
            for hook in hooks:
                hook.remove()
            self._streams.join()

    def _mark(self, norm: nn.Module, *_: object) -> None:
        self._streams.mark(norm)

    def _wait(self, norm: nn.Module, *_: object) -> None:
        self._streams.wait(norm)
