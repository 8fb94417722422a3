"""Pieces of work on ranks that have different numbers of them: an error or a signal on one rank ends all after the same
piece.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from typing import Any

import pytest

from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import in_step
from esl_dist.engine.guards import StopFlag
from esl_dist.errors import StoppedBySignal
from tests.ranks import run_ranks

HERE = "tests.engine.test_in_step"


def counted(pieces: int, signal_at: int = -1, error_at: int = -1, every: int = 2) -> dict[str, Any]:
    """How far this rank came, and how it ended."""
    found: dict[str, Any] = {"done": 0, "closed": False, "end": "whole"}

    def work() -> Generator[None, None, None]:
        try:
            for number in range(pieces):
                if number == signal_at:
                    os.kill(os.getpid(), signal.SIGTERM)
                if number == error_at:
                    raise ValueError(f"piece {number} cannot be read")
                found["done"] += 1
                yield
        finally:
            found["closed"] = True

    with StopFlag() as stop:
        try:
            in_step(work(), lambda: stop.local, every)
        except StoppedBySignal:
            found["end"] = "signal"
        except ValueError as error:
            found["end"] = str(error)
    return found


def on_a_rank(cases: list[dict[str, list[int]]]) -> list[dict[str, Any]]:
    """Several cases in one process group: that the next one works shows that no rank was left in another collective."""
    return [counted(**{key: values[collectives.rank()] for key, values in case.items()}) for case in cases]


def test_three_ranks_end_together() -> None:
    whole = {"pieces": [0, 5, 9]}
    signalled = {"pieces": [20, 20, 20], "signal_at": [-1, 6, -1]}
    late = {"pieces": [2, 3, 20], "signal_at": [-1, -1, 10]}  # the others have nothing left to do by then
    broken = {"pieces": [20, 20, 1], "error_at": [-1, 3, -1]}
    both = {"pieces": [20, 20, 20], "error_at": [4, -1, -1], "signal_at": [-1, 4, -1]}
    found = list(zip(*run_ranks(3, f"{HERE}:on_a_rank", [whole, signalled, late, broken, both, whole]), strict=True))
    assert all(rank["closed"] for case in found for rank in case)
    assert [rank["done"] for rank in found[0]] == [0, 5, 9] and {rank["end"] for rank in found[0]} == {"whole"}
    assert [(rank["done"], rank["end"]) for rank in found[1]] == [(8, "signal")] * 3
    assert [(rank["done"], rank["end"]) for rank in found[2]] == [(2, "signal"), (3, "signal"), (12, "signal")]
    assert [(rank["done"], rank["end"]) for rank in found[3]] == [
        (n, "rank 1: piece 3 cannot be read") for n in (4, 3, 1)
    ]
    assert {rank["end"] for rank in found[4]} == {"rank 0: piece 4 cannot be read"}, (
        "what is wrong is said, also to who was asked to stop"
    )
    assert found[5] == found[0]


@pytest.mark.parametrize(
    ("pieces", "signal_at", "done", "end"),
    [(7, -1, 7, "whole"), (7, 2, 4, "signal"), (4, 3, 4, "signal"), (3, 2, 3, "whole")],
)
def test_one_rank(pieces: int, signal_at: int, done: int, end: str) -> None:
    """A signal at the very end of the work is for whoever comes next."""
    found = counted(pieces, signal_at)
    assert (found["done"], found["end"], found["closed"]) == (done, end, True)
