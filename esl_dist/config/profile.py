"""Options of the profiler: a trace of some steps, the history of the device's memory."""

from __future__ import annotations

from dataclasses import dataclass

from esl_dist.config.bounds import NonNegativeInt


@dataclass(frozen=True)
class ProfileConfig:
    """A look into a few steps of every stage; nothing here changes a result."""

    start: NonNegativeInt = 10
    """Steps of a stage before the recorded ones; its first step after a start is never recorded."""
    steps: NonNegativeInt = 0
    """Steps to record; each rank writes ``profile/<stage>_rank<r>.json.gz`` into the run folder, for ui.perfetto.dev or
    chrome://tracing. 0 records none.
    """
    memory: bool = False
    """Keep the history of CUDA's allocator, so that running out of memory leaves
    ``profile/<stage>_rank<r>_memory.pickle`` for pytorch.org/memory_viz.
    """
