"""Which checkpoints of a folder stay: the newest few and the best. What kills leave aside goes."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
from pathlib import Path

from esl_dist import atomic
from esl_dist.runs import CheckpointsFolder
from esl_dist.runs.content import Best

log = logging.getLogger(__name__)


def mark_best(folder: Path, step: int, score: float) -> None:
    """Retention never drops the checkpoint of ``step`` until another is marked."""
    CheckpointsFolder(folder).best.write(Best(step, score))


def best(folder: Path) -> tuple[int, float] | None:
    """Step and score of the checkpoint marked best; None where none is, or the mark is damaged."""
    found = CheckpointsFolder(folder).best.recall()
    return None if found is None else (found.step, found.score)


def steps(folder: Path) -> list[tuple[int, Path]]:
    """Checkpoint folders by rising step."""
    return [(found.step or 0, found.path) for found in CheckpointsFolder(folder).all()]


def retain(folder: Path, step: int, keep: int) -> None:
    """Keep the newest ``keep`` up to ``step`` and the best. Anything beyond ``step`` was rejected on resume, so it goes
    too.
    """
    marked = best(folder)
    found = steps(folder)
    newest = {number for number, _ in [entry for entry in found if entry[0] <= step][-keep:]}
    for number, path in found:
        if number not in newest and not (marked and number == marked[0] and number <= step):
            with contextlib.suppress(OSError):  # a folder too many is no reason to fail
                remove(path)


def remove(path: Path) -> None:
    """Under a name that is no checkpoint's first: a kill half-way leaves nothing that looks like one."""
    aside = path.with_name(f".{path.name}.old-{os.getpid()}")
    atomic.rename(path, aside)
    shutil.rmtree(aside, ignore_errors=True)


def clean(folder: Path) -> None:
    """Sweep what kills left aside. The run's lock makes sure that nobody is writing there."""
    for path in folder.glob(".step_*") if folder.is_dir() else ():
        if re.fullmatch(r"\.step_\d+\.(tmp|old)-\d+", path.name):
            log.info("removing %s, left by a process that was killed", path)
            shutil.rmtree(path, ignore_errors=True)
