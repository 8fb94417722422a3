"""A function of consecutive numbers, computed ahead by worker processes or when asked, with the same results and the same errors."""

from __future__ import annotations

import atexit
import signal
import weakref
from collections.abc import Callable, Iterator, Sequence
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


def _in_worker(_: int) -> None:
    """A signal to the whole group asks the trainer to save and leave; its loader must live until it says so.

    A worker whose trainer is killed notices by itself within seconds (torch's watchdog).
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


def _close(produced: weakref.ref[Produced[Any]]) -> None:
    alive = produced()
    if alive is not None:
        alive.close()


class Produced(Iterator[T], Generic[T]):
    """Iterates ``function(start), function(start + 1), …`` up to ``stop`` (None: endless).

    Workers live as long as the iterator, use one thread each and are gone after ``close``. An exception of the function is raised here with
    its own type and message.
    """

    def __init__(self, function: Callable[[int], T], *, start: int, stop: int | None, workers: int, prefetch: int = 2) -> None:
        numbers = _Numbers(start, stop)
        self._iterator: Any = None
        if workers == 0:
            self._iterator = map(function, numbers)
        else:
            loader = DataLoader(
                _Function(function),
                batch_size=None,
                sampler=numbers,
                num_workers=workers,
                prefetch_factor=prefetch,
                collate_fn=_as_it_is,
                worker_init_fn=_in_worker,
                pin_memory=torch.cuda.is_available(),
            )
            self._iterator = iter(loader)
            # The interpreter's own end would wait for workers that nobody told to stop.
            atexit.register(_close, weakref.ref(self))

    def __next__(self) -> T:
        if self._iterator is None:
            raise StopIteration
        item = next(self._iterator)
        if isinstance(item, _Failed):
            self.close()
            raise item.error
        produced: T = item
        return produced

    def close(self) -> None:
        """End the workers and wait for them; calling it again does nothing."""
        iterator, self._iterator = self._iterator, None
        shut_down = getattr(iterator, "_shutdown_workers", None)
        if shut_down is not None:
            shut_down()
