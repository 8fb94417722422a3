"""A function of consecutive numbers, computed ahead by worker processes or by a thread, with the same results and the
same errors.
"""

from __future__ import annotations

import atexit
import contextlib
import signal
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

T = TypeVar("T")


@dataclass(frozen=True)
class _Failed:
    """An exception on its way from a worker: torch's own transport would bury the message in the worker's traceback."""

    error: Exception


class _Numbers(Sequence[int]):
    """start, start + 1, … as a sampler; endless where stop is None."""

    def __init__(self, start: int, stop: int | None) -> None:
        self.start, self.stop = start, stop

    def __iter__(self) -> Iterator[int]:
        number = self.start
        while self.stop is None or number < self.stop:
            yield number
            number += 1

    def __len__(self) -> int:
        return (2**31 if self.stop is None else self.stop) - self.start

    def __getitem__(self, index: Any) -> Any:
        return self.start + index


class _Function(TorchDataset):
    """The function as torch's map-style data set."""

    def __init__(self, function: Callable[[int], Any]) -> None:
        self.function = function

    def __getitem__(self, number: int) -> Any:
        try:
            return self.function(number)
        except Exception as error:
            return _Failed(error)


def _as_it_is(item: Any) -> Any:
    return item


_GROUP_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes started inside never hear the signals with which a scheduler asks a whole group to save and leave.

    The trainer does, and needs its loader until it has. A worker whose trainer is killed notices within seconds
    (torch's watchdog).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _close(produced: weakref.ref[Produced[Any]]) -> None:
    alive = produced()
    if alive is not None:
        alive.close()


class _Thread(Iterator[Any]):
    """Items made ahead by one thread of this process: reading overlaps with the caller's work wherever a decoder or
    torch lets go of the interpreter.
    """

    def __init__(self, function: Callable[[int], Any], numbers: Iterator[int], ahead: int) -> None:
        self._function, self._numbers = function, numbers
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="loader")
        self._waiting: deque[Future[Any]] = deque()
        for _ in range(ahead):
            self._ask()

    def _ask(self) -> None:
        number = next(self._numbers, None)
        if number is not None:
            self._waiting.append(self._pool.submit(self._function, number))

    def __next__(self) -> Any:
        if not self._waiting:
            raise StopIteration
        found = self._waiting.popleft()
        self._ask()
        return found.result()

    def close(self) -> None:
        """Wait for the item in the making and drop the rest."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _pinned(item: Any) -> Any:
    """A named tuple with its tensors in page-locked memory, from which a GPU copies without the host's help; anything
    else as it is.
    """
    if not hasattr(item, "_make"):
        return item
    return item._make(part.pin_memory() if isinstance(part, torch.Tensor) else part for part in item)


class Produced(Iterator[T], Generic[T]):
    """Iterates ``function(start), function(start + 1), …`` up to ``stop`` (None: endless), ``prefetch`` items ahead of
    the caller.

    Workers, or with ``workers=0`` a thread, live as long as the iterator and are gone after ``close``; a worker uses
    one thread. An exception of the function is raised here with its own type and message. Where there is a GPU, tensors
    of a named tuple come in page-locked memory.
    """

    def __init__(
        self, function: Callable[[int], T], *, start: int, stop: int | None, workers: int, prefetch: int = 2
    ) -> None:
        numbers, pin = _Numbers(start, stop), torch.cuda.is_available()
        self._iterator: Any = None
        self._alone = workers == 0
        if self._alone:
            self._iterator = _Thread(
                (lambda number: _pinned(function(number))) if pin else function, iter(numbers), prefetch
            )
        else:
            loader = DataLoader(
                _Function(function),
                batch_size=None,
                sampler=numbers,
                num_workers=workers,
                prefetch_factor=prefetch,
                collate_fn=_as_it_is,
                pin_memory=pin,
            )
            with _deaf():
                self._iterator = iter(loader)
            # The interpreter's own end would wait for workers that nobody told to stop.
            atexit.register(_close, weakref.ref(self))

    def __next__(self) -> T:
        if self._iterator is None:
            raise StopIteration
        if self._alone:
            try:
                produced: T = next(self._iterator)
            except BaseException:
                self.close()
                raise
            return produced
        item = self._received()
        if isinstance(item, _Failed):
            self.close()
            raise item.error
        received: T = item
        return received

    def _received(self) -> Any:
        """The next item from a worker. What the function raises comes as an item, so an exception here is the end of a
        worker.
        """
        try:
            return next(self._iterator)
        except (RuntimeError, OSError, EOFError) as error:
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise RuntimeError(
                f"a loader process ended unexpectedly ({reason}); it was killed or ran out of memory: try fewer"
                " data.workers"
            ) from error

    def close(self) -> None:
        """End the workers or the thread and wait for them; calling it again does nothing."""
        iterator, self._iterator = self._iterator, None
        if isinstance(iterator, _Thread):
            iterator.close()
            return
        shut_down = getattr(iterator, "_shutdown_workers", None)
        if shut_down is None:
            return
        workers = list(getattr(iterator, "_workers", ()))
        try:
            # A worker that died was reported where its batch was missed; torch reports it again from a signal handler.
            with contextlib.suppress(RuntimeError):
                shut_down()
        finally:
            for worker in workers:
                if worker.is_alive():  # stuck in a read
                    worker.kill()
                worker.join()
