"""When memory runs out: one sentence that names the options to change and, where asked for, the history of CUDA's
allocator.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from esl_dist.config.schema import Config
from esl_dist.errors import RunFailure
from esl_dist.runs import RunFolder

log = logging.getLogger(__name__)

# What torch, the CUDA runtime and cuBLAS say; a CPU allocation fails as a plain RuntimeError.
_WORDS = re.compile(r"out of memory|can't allocate memory|not enough memory|ALLOC_FAILED", re.IGNORECASE)
_ASKED = re.compile(r"tried to allocate ([\d.]+ \w+)", re.IGNORECASE)
# About 100 MB on the host; the allocations of some hundred steps.
_HISTORY = 200_000


def ran_out(error: BaseException) -> bool:
    """Whether an error means that the device's or the host's memory is full."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _WORDS.search(str(error)) is not None
    )


@contextlib.contextmanager
def explained(what: str, advice: str, snapshot: Path | None = None) -> Iterator[None]:
    """Inside, memory that runs out ends the run with one line: ``what`` needed it, and ``advice``.

    Args:
        snapshot: where the CUDA allocator's history since the beginning goes then; None keeps none.

    Raises:
        RunFailure: of this rank alone; the others cannot know.
    """
    if snapshot:
        torch.cuda.memory._record_memory_history(max_entries=_HISTORY)
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RunFailure) or not ran_out(error):
            raise
        asked = _ASKED.search(str(error))
        where = _dump(snapshot) if snapshot else ""
        failure = RunFailure(
            f"{what}: out of memory{f' at a request for {asked[1]}' if asked else ''}; {advice}{where}"
        )
        failure.every_rank = False
        raise failure from error
    finally:
        if snapshot:
            torch.cuda.memory._record_memory_history(enabled=None)


def training_advice(config: Config, precision: str) -> str:
    """What makes a training step smaller, the harmless first."""
    options = []
    if config.optim.batch > 1:
        options.append("lower optim.batch and raise optim.accumulate by as much (the global batch stays)")
    options.append("make data.source.size and data.target.size smaller")
    if precision in ("fp32", "tf32"):
        options.append("set run.precision=bf16")
    return f"{', or '.join(options)}; profile.memory=true records what holds it on CUDA"


def snapshot_path(config: Config, device: torch.device, run_dir: Path, stage: str, rank: int) -> Path | None:
    """Where a stage's memory history would go; None where none is asked for, or there is none to keep."""
    if not config.profile.memory:
        return None
    if device.type != "cuda":
        log.info("profile.memory: keeps the history of CUDA's allocator only; there is none on %s", device.type)
        return None
    return RunFolder(run_dir).memory_history(stage, rank)


def _dump(path: Path) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.cuda.memory._dump_snapshot(str(path))
    except (OSError, RuntimeError) as error:
        return f" (the memory history could not be written: {error})"
    return f" (history: {path}, for pytorch.org/memory_viz)"
