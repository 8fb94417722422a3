"""A training step as one CUDA graph for every shape of its batches: thousands of kernels, one launch.

What a graph replays it replays with the numbers and addresses of its capture. So batches are copied into buffers that
stay, whatever changes from step to step lies in device memory (``engine.values``), and a step that decides on the host
cannot be captured: it says so itself.

A shape's first steps run eagerly, because libraries allocate and tune on the way. The first captured step is then
compared with the eager step from the same state, bit for bit; where it differs, or where the capture fails, the steps
go on eagerly, and that is said once.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from esl_dist.errors import RunFailure

if TYPE_CHECKING:
    from esl_dist.distributed.runtime import Runtime

log = logging.getLogger(__name__)

WARM, WARM_OF_RANKS = 3, 11
"""Eager steps of a shape before its capture; DDP looks at its own first ten."""

MOST = 8
"""Graphs that are held at a time: each holds the memory of its shape. Further shapes run eagerly."""

Outcome = dict[str, Tensor]
"""What a step says of itself, on the device, by name."""
Work = Callable[[Any], Outcome]
"""A whole step on batches: gradients, agreement, update."""


class Graphs(Protocol):
    """Where graphs come from; a test brings its own."""

    def capture(self, work: Callable[[], Outcome]) -> tuple[Callable[[], None], Outcome]:
        """Record ``work`` without running it: what replays it, and what it returns, filled anew by every replay."""


class CudaGraphs:
    """CUDA's, of one memory pool: no two are replayed at a time, and what they return is copied before the next."""

    def __init__(self) -> None:
        self._last: Callable[[], torch.cuda.CUDAGraph | None] = lambda: None

    def capture(self, work: Callable[[], Outcome]) -> tuple[Callable[[], None], Outcome]:
        graph, before = torch.cuda.CUDAGraph(), self._last()
        pool = None if before is None else before.pool()  # one without a graph is not to be used again
        current = torch.cuda.current_stream()
        # The default stream cannot be captured; torch has one of its own for that.
        stream = None if current == torch.cuda.default_stream() else current
        try:
            # thread_local: threads that read and pin batches meanwhile do nothing wrong.
            with (
                _without_collections(),
                torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"),
            ):
                outcome = work()
        finally:
            torch.cuda.set_stream(current)  # after a capture that failed torch stays on the one that it took
        self._last = weakref.ref(graph)
        return graph.replay, outcome


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """What is dead is collected before, for its memory, and nothing inside: it may free what a capture must not."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextlib.contextmanager
def own_stream(device: torch.device, wanted: bool = True) -> Iterator[None]:
    """Everything inside is launched on a stream that can be captured: the default stream cannot, and what DDP and
    autograd make remembers its stream. Graphs end with it.
    """
    if device.type != "cuda" or not wanted:
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        release()
    torch.cuda.current_stream(device).wait_stream(stream)


def release() -> None:
    """Let go of every graph of this process; shapes that come again are captured again.

    A graph holds the memory of its step, and NCCL ends no communicator while there is a graph with its collectives: it
    waits, for good.
    """
    for captured in list(_ALL):
        captured.release()


def obstacle(mode: str, runtime: Runtime, train_step: object) -> str:
    """Why steps are not to be captured, in words; empty if they are.

    Args:
        mode: ``run.capture``.
        train_step: says by ``host_work`` what of it the host decides, and by ``unmeasured`` what is captured on demand
            alone (``engine.step.DeviceAlone``).
    """
    if mode == "off":
        return "run.capture=off"
    if runtime.device.type != "cuda":
        return "there is no GPU"
    host_work: str | None = getattr(train_step, "host_work", None)
    if host_work is None:
        return "this method does not say that the device can take its step alone"
    if host_work:
        return host_work
    if runtime.precision == "fp16":
        return "fp16 finds its loss scale on the host"
    unmeasured = getattr(train_step, "unmeasured", "") or ("several ranks" if runtime.world > 1 else "")
    if unmeasured and mode == "auto":
        return f"not yet measured: {unmeasured} (run.capture=on tries it)"
    return ""


def _alone(well: bool) -> bool:
    return well


class _Graph:
    """One captured shape: its buffers, what replays it, and what a replay leaves."""

    def __init__(self, batches: Any, replay: Callable[[], None], outcome: Outcome) -> None:
        self.batches, self.replay, self.outcome = batches, replay, outcome

    @property
    def on_device(self) -> bool:
        return any(value.is_cuda for value in self.outcome.values())

    def run(self, batches: Any) -> Outcome:
        _fill(self.batches, batches)
        self.replay()
        return {name: value.clone() for name, value in self.outcome.items()}


class Captured:
    """Calls ``work`` on batches (nested tuples and lists with tensors in them), as a graph where it can.

    Args:
        state: every tensor that ``work`` changes in place, for the comparison of a captured with an eager step.
        title: names the stage in what is logged.
        agree: of several ranks, whether all are well.
    """

    def __init__(
        self,
        work: Work,
        state: Callable[[], Sequence[Tensor]],
        title: str,
        graphs: Graphs | None = None,
        warm: int = WARM,
        agree: Callable[[bool], bool] = _alone,
    ) -> None:
        self._agree = agree
        self._work, self._state, self._title, self._warm = work, state, title, warm
        self._graphs: Graphs = graphs or CudaGraphs()
        self._made: dict[Any, _Graph] = {}
        self._seen: dict[Any, int] = {}
        self.refused = ""
        """Why steps are not captured any more; empty while they are."""
        _ALL.add(self)

    def release(self) -> None:
        """Let go of its graphs."""
        if any(graph.on_device for graph in self._made.values()):
            with contextlib.suppress(RuntimeError):  # a device that failed has said so already
                torch.cuda.synchronize()  # none may be destroyed while it runs
        self._made.clear()

    def __call__(self, batches: Any) -> Outcome:
        if self.refused:
            return self._work(batches)
        key = _key(batches)
        graph = self._made.get(key)
        if graph is not None:
            return graph.run(batches)
        self._seen[key] = self._seen.get(key, 0) + 1
        if self._seen[key] <= self._warm or len(self._made) == MOST:
            return self._work(batches)
        return self._first(key, batches)

    def _first(self, key: Any, batches: Any) -> Outcome:
        """Capture, replay, and repeat the same step eagerly: whichever is kept, one step has been made."""
        graph, why = self._capture(batches)
        if not self._agree(graph is not None) or graph is None:
            self._refuse(why or "cannot be captured on another rank")
            return self._eagerly_after_all(batches)
        before = [tensor.clone() for tensor in self._state()]
        found = graph.run(batches)
        after = [tensor.clone() for tensor in self._state()]
        for tensor, value in zip(self._state(), before, strict=True):
            tensor.copy_(value)
        expected = self._work(batches)
        differing = [name for name, value in expected.items() if not _same(value, found[name])]
        if not all(_same(a, b) for a, b in zip(self._state(), after, strict=True)):
            differing.append("weights or state")
        if self._agree(not differing):
            self._made[key] = graph
        else:
            what = ", ".join(differing) or "another rank's"
            self._refuse(f"does not have the bits of the eager step when it is captured ({what})")
        return expected

    def _capture(self, batches: Any) -> tuple[_Graph | None, str]:
        """The graph, or why there is none."""
        static = _map(batches, torch.clone)
        try:
            return _Graph(static, *self._graphs.capture(lambda: self._work(static))), ""
        except (RuntimeError, ValueError, TypeError) as error:  # torch has many words for what it cannot capture
            return None, f"cannot be captured ({(str(error).splitlines() or [type(error).__name__])[0]})"

    def _eagerly_after_all(self, batches: Any) -> Outcome:
        """The step that a capture broke off in its midst; DDP does not begin another after half a backward.

        Raises:
            RunFailure: it cannot be taken any more.
        """
        try:
            return self._work(batches)
        except torch.OutOfMemoryError:
            raise  # whoever catches it says what it needs
        except RuntimeError as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunFailure(
                f"{self._title} {self.refused}, and does not go on after that ({reason}); start again with"
                " run.capture=off, from the newest checkpoint"
            ) from error

    def _refuse(self, why: str) -> None:
        self.refused = why
        self._made.clear()
        log.warning("%s %s, so it goes on eagerly; run.capture=off says so beforehand", self._title, why)


_ALL: weakref.WeakSet[Captured] = weakref.WeakSet()


def _same(a: Tensor, b: Tensor) -> bool:
    """Bit for bit, NaN among them."""
    return (
        a.dtype == b.dtype
        and a.shape == b.shape
        and torch.equal(a.contiguous().view(-1).view(torch.uint8), b.contiguous().view(-1).view(torch.uint8))
    )


def _map(tree: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """The same tuples and lists with every tensor replaced; anything else stays."""
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, tuple | list):
        parts = [_map(part, function) for part in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def _tensors(tree: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map(tree, lambda tensor: found.append(tensor) or tensor)  # type: ignore[func-returns-value]
    return found


def _fill(static: Any, batches: Any) -> None:
    for mine, new in zip(_tensors(static), _tensors(batches), strict=True):
        mine.copy_(new, non_blocking=True)


def _key(batches: Any) -> Any:
    """What a graph depends on: where there are tensors, and of what shape and type."""
    if isinstance(batches, Tensor):
        return batches.shape, batches.dtype, batches.device
    parts = tuple(_key(part) for part in batches) if isinstance(batches, tuple | list) else ()
    return parts if any(part is not None for part in parts) else None
