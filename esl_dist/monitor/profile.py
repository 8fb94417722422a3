"""A trace of a few training steps that a browser opens, and the names of a step's parts in it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import torch

from esl_dist.config.profile import ProfileConfig

log = logging.getLogger(__name__)

Phase = Literal["data", "forward", "backward", "discriminator", "optimiser", "all-reduce"]


def phase(name: Phase) -> torch.profiler.record_function:
    """A context, or a decorator, that names what runs in it; microseconds when nothing is recorded.

    ``all-reduce`` is where the host waits for the other ranks; DDP's own reductions show under the back-end's name
    (``gloo:``, ``nccl:``).
    """
    return torch.profiler.record_function(name)


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
