"""Long work outside the training loop, in pieces: the ranks meet between them, so that an error or a signal stops all
at once.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Generator

import torch

from esl_dist.distributed import collectives
from esl_dist.errors import StoppedBySignal

log = logging.getLogger(__name__)

Stop = Callable[[], bool]
"""Whether a signal has reached this rank."""


def never() -> bool:
    """No signal is caught."""
    return False


def in_step(work: Generator[None, None, None], stop: Stop = never, every: int = 4) -> None:
    """Run ``work`` on every rank, to the end on all of them. Collective.

    Args:
        work: yields between two pieces, of which ranks may have different numbers. It is closed where it does not end,
            so its
            ``finally`` blocks run.
        every: pieces between two meetings; a meeting is an all-reduce of three numbers.

    Raises:
        ValueError: on all ranks with the first message, as ``collectives.agree``.
        StoppedBySignal: on all ranks after the same meeting.
    """
    problem: ValueError | None = None
    going = True
    try:
        while True:
            if going:
                try:
                    going = len(list(itertools.islice(work, every))) == every
                except ValueError as error:
                    problem, going = error, False
            mine = torch.tensor([going, problem is not None, stop()], dtype=torch.int64)
            anyone_going, anyone_failed, anyone_asked = collectives.all_reduce_(mine, "max").tolist()
            if anyone_failed or not anyone_going:
                break
            if anyone_asked:
                log.info("stopping as asked by a signal; the same command goes on from what is finished")
                raise StoppedBySignal
    finally:
        work.close()

    def tell() -> None:
        if problem is not None:
            raise problem

    collectives.agree(tell)
