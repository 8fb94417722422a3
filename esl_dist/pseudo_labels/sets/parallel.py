"""Stages of work that overlap: an ordered parallel map with a bounded queue."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from esl_dist import processes

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 8


def workers() -> int:
    """Threads for scores and PNGs of one rank: its share of the machine's cores, at most 8."""
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(MAX_WORKERS, processes.cores() // local_world))


def overlapped(function: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[Result]:
    """``map(function, items)`` in order, with ``threads`` at work and at most one more result waiting than that.

    ``items`` is read from the calling thread while the others work. The first error stops the rest and is raised here.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
