"""A rank that keeps the others waiting is named with its line and the collective, and the job ends; waiting alone is no
stall.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from esl_dist.distributed.stall import GRACE_S, StallWatch
from tests.ranks import ROOT, free_port, rank_environment

LIMIT_S = 3.0


def drill(folder: str, case: str) -> None:
    """One rank: five collectives, the trouble, one more collective."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
    watch = StallWatch(Path(folder), LIMIT_S)
    for _ in range(5):
        dist.all_reduce(torch.ones(3))
    if case == "all are slow":
        time.sleep(3 * LIMIT_S)
    elif case == "one is late":
        time.sleep(LIMIT_S / 2 * dist.get_rank())
    elif case == "one hangs" and dist.get_rank() == 1:
        hang_here()
    elif case == "one is frozen" and dist.get_rank() == 1:
        time.sleep(1)  # it has said where it is
        os.kill(os.getpid(), signal.SIGSTOP)
    dist.all_reduce(torch.ones(7, 2))
    watch.close()
    dist.destroy_process_group()


def hang_here() -> None:
    time.sleep(3600)


def play(folder: Path, case: str) -> tuple[list[int | None], str, float]:
    """Exit codes (None: still there), what the ranks said, and how long rank 0 took."""
    port = free_port()
    code = f"from tests.engine.test_guards_stall import drill; drill({str(folder / 'record')!r}, {case!r})"
    logs = [folder / f"{rank}.log" for rank in range(2)]
    processes = []
    for rank in range(2):
        with open(logs[rank], "wb") as out:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", code], cwd=ROOT, env=rank_environment(rank, 2, port), stdout=out, stderr=out
                )
            )
    began = time.monotonic()
    try:
        processes[0].wait(120)
        seconds = time.monotonic() - began
        if case != "one is frozen":
            processes[1].wait(30)
        return [process.poll() for process in processes], "".join(log.read_text() for log in logs), seconds
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_rank_that_hangs_is_named_with_its_line_and_the_collective(tmp_path: Path) -> None:
    codes, said, _ = play(tmp_path, "one hangs")
    assert all(codes), said
    assert "rank 1 (pid " in said and "it hangs in tests/engine/test_guards_stall.py:" in said and "(hang_here)" in said
    assert "rank 0 waits in collective 6 (gloo:all_reduce of [[7, 2]] Float)" in said
    assert "in hang_here\n" in said, "the stack of the rank that hangs"
    record = json.loads((tmp_path / "record" / "rank0.json").read_text())
    assert record["entries"][-1]["input_sizes"] == [[7, 2]]
    assert len(json.loads((tmp_path / "record" / "rank1.json").read_text())["entries"]) == 5


@pytest.mark.slow
def test_a_rank_that_is_frozen_is_named_and_the_others_end_by_themselves(tmp_path: Path) -> None:
    codes, said, seconds = play(tmp_path, "one is frozen")
    assert codes == [1, None], said
    assert "rank 1 (pid " in said and "is silent: stopped" in said and "rank 0 waits in collective 6" in said
    assert seconds < 60, f"the group's own time-out was not needed, limit {LIMIT_S} + grace {GRACE_S}"


@pytest.mark.parametrize("case", ["all are slow", pytest.param("one is late", marks=pytest.mark.slow)])
def test_waiting_alone_is_no_stall(tmp_path: Path, case: str) -> None:
    codes, said, _ = play(tmp_path, case)
    assert codes == [0, 0], said
    assert "waiting" not in said
    assert not (tmp_path / "record").exists()
