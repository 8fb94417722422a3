"""How long a stage and a run still take, from the steps that were seen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple


class Left(NamedTuple):
    """Seconds that are left; None where nothing is known yet, or nothing comes after the stage."""

    stage: float | None
    run: float | None


class Clock:
    """Reads the steps of stages as they come. A run's time is told from all that this process has seen: steps, and the
    scores and labels between them.
    """

    def __init__(self) -> None:
        self._expected: dict[str, int] = {}
        self._stage = ""
        self._stage_began = self._run_began = (0, 0.0)
        self._seen = 0
        self._last = 0

    def expects(self, steps: Mapping[str, int]) -> None:
        """The stages of the run in their order, with their steps."""
        self._expected = dict(steps)

    def read(self, stage: str, step: int, steps: int) -> Left:
        """What is left after ``step`` of ``steps``."""
        now = time.monotonic()
        if not self._stage:
            self._run_began = (step, now)  # of a resumed stage the steps before are nobody's here
        elif stage == self._stage:
            self._seen += step - self._last
        else:
            self._seen += step
        if stage != self._stage:
            self._stage, self._stage_began = stage, (step, now)
        self._last = step
        here = step - self._stage_began[0]
        left = (now - self._stage_began[1]) / here * (steps - step) if steps and here > 0 else None
        later = self._later(stage)
        if left is None or not later or not self._seen:
            return Left(left, None)
        return Left(left, left + (now - self._run_began[1]) / self._seen * later)

    def _later(self, stage: str) -> int:
        """Steps of the stages after this one."""
        names = list(self._expected)
        return sum(self._expected[name] for name in names[names.index(stage) + 1 :]) if stage in names else 0
