"""How fast training goes and what share of the time it waits for data."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator


class Throughput:
    """Times steps of ``images_per_step`` images (all ranks together) with the host's clock.

    On a GPU a step returns before its kernels ran, so ``read`` is exact only after something waited for the device, as
    reading a loss does.
    """

    def __init__(self, images_per_step: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._images = images_per_step
        self._clock = clock
        self._began = self._interval = clock()
        self._steps = 0
        self._waited = 0.0

    @property
    def total_seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the part of a step that waits for the loader."""
        start = self._clock()
        try:
            yield
        finally:
            self._waited += self._clock() - start

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Around work between steps that is no training (an evaluation): its time counts nowhere."""
        start = self._clock()
        try:
            yield
        finally:
            away = self._clock() - start
            self._began += away
            self._interval += away

    def step(self) -> None:
        """One step is over."""
        self._steps += 1

    def read(self) -> dict[str, float]:
        """Means since the last call: ``images_per_second``, ``step_seconds`` and ``data_wait`` (share of the time,
        0-1).
        """
        now = self._clock()
        seconds = max(now - self._interval, 1e-9)
        found = {
            "images_per_second": round(self._steps * self._images / seconds, 3),
            "step_seconds": round(seconds / max(self._steps, 1), 6),
            "data_wait": round(min(self._waited / seconds, 1.0), 4),
        }
        self._interval, self._steps, self._waited = now, 0, 0.0
        return found
