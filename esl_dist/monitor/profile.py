"""A trace of a few training steps that a browser opens, and the names of a step's parts in it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch

from esl_dist.config.profile import ProfileConfig

log = logging.getLogger(__name__)

Phase = Literal["data", "forward", "backward", "discriminator", "optimiser", "all-reduce"]


class _Stopwatch:
    """Seconds by phase; a phase inside another counts as the outer one's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock, self.seconds = clock, dict[str, float]()
        self._depth, self._began = 0, 0.0

    def enter(self) -> None:
        self._depth += 1
        if self._depth == 1:
            self._began = self.clock()

    def leave(self, name: Phase) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds[name] = self.seconds.get(name, 0.0) + self.clock() - self._began


_stopwatch: _Stopwatch | None = None


@contextlib.contextmanager
def phase(name: Phase) -> Iterator[None]:
    """A context, or a decorator, that names what runs in it; microseconds when nothing is recorded.

    ``all-reduce`` is where the host waits for the other ranks; DDP's own reductions show under the back-end's name
    (``gloo:``, ``nccl:``).
    """
    watch = _stopwatch
    if watch:
        watch.enter()
    try:
        with torch.profiler.record_function(name):
            yield
    finally:
        if watch:
            watch.leave(name)


@contextlib.contextmanager
def seconds_by_phase(clock: Callable[[], float]) -> Iterator[dict[str, float]]:
    """Inside, what the phases of this process take by ``clock``, summed by name; nested ones count as the outer."""
    global _stopwatch
    assert _stopwatch is None
    _stopwatch = _Stopwatch(clock)
    try:
        yield _stopwatch.seconds
    finally:
        _stopwatch = None


class StepProfiler:
    """Records ``profile.steps`` steps after step ``profile.start`` and writes them to ``path`` (``.json.gz``; Perfetto
    or chrome://tracing).

    Call ``step(number)`` after each step; with ``profile.steps=0`` it does nothing and costs nothing. The first step is
    never recorded: it compiles, allocates and tunes, so it is like no other. A run that resumes beyond ``start``
    records the steps after its own first one.
    """

    def __init__(self, config: ProfileConfig, path: Path) -> None:
        self._start, self._left = config.start, config.steps
        self._path = path
        self._profile: Any = None

    def step(self, number: int) -> None:
        """Step ``number`` (counted from 1) is over."""
        if self._left == 0 or number < self._start:
            return
        if self._profile is None:
            activities = [torch.profiler.ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(torch.profiler.ProfilerActivity.CUDA)
            self._profile = torch.profiler.profile(activities=activities, record_shapes=True)
            self._profile.__enter__()
            return
        self._left -= 1
        if self._left == 0:
            self.close()

    def close(self) -> None:
        """Write what was recorded; called by ``step`` after the last recorded one, and safe to call again."""
        if self._profile is None:
            return
        profile, self._profile = self._profile, None
        profile.__exit__(None, None, None)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            profile.export_chrome_trace(str(self._path))
            log.info("profile: wrote %s", self._path)
        except (OSError, RuntimeError) as error:
            log.warning("%s: the trace could not be written (%s)", self._path, error)
