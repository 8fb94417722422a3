"""Working memory that threads take by turns and use again and again: as many pieces as threads work at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


class Idle(Generic[T]):
    """Pieces that nobody uses at the moment; ``make`` makes one where there is none."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self.pieces: list[T] = []

    @contextlib.contextmanager
    def lent(self) -> Iterator[T]:
        """One piece, given back whatever becomes of the work with it."""
        try:  # not a look first and then a pop: another thread may come between
            piece = self.pieces.pop()
        except IndexError:
            piece = self._make()
        try:
            yield piece
        finally:
            self.pieces.append(piece)


class Line:
    """Flat float32 memory that grows with what is asked for."""

    def __init__(self) -> None:
        self._values = np.empty(0, np.float32)

    def of(self, length: int) -> np.ndarray:
        """At least ``length`` values."""
        if len(self._values) < length:
            self._values = np.empty(length, np.float32)
        return self._values
