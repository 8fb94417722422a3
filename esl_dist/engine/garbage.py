"""Python's garbage collector, at the same steps on all ranks."""

from __future__ import annotations

import gc

EVERY = 100
"""Steps between two collections."""


class Garbage:
    """From here to ``close`` nothing is collected but every ``EVERY`` steps.

    On its own the collector runs when enough objects were made, on each rank at another moment, and whoever is not
    collecting waits in the next all-reduce. What is alive at the start (modules, configuration, data sets) is never
    looked at again until the end.
    """

    def __init__(self) -> None:
        self._enabled = gc.isenabled()
        gc.collect()
        gc.freeze()
        gc.disable()

    def step(self, number: int) -> None:
        """Step ``number`` is over."""
        if number % EVERY == 0:
            gc.collect()

    def close(self) -> None:
        gc.unfreeze()
        if self._enabled:
            gc.enable()
