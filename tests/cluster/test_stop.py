"""The trainer itself under launch/agent.py: a stop is saved in time, ends with 0, and the same command goes on from
there.
"""

from __future__ import annotations

import re
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.processes import ROOT, started


def until(log: Path, pattern: str, seconds: float = 120) -> str:
    end = time.monotonic() + seconds
    while not (found := re.search(pattern, log.read_text(errors="replace"))):
        assert time.monotonic() < end, f"no {pattern!r} in:\n{log.read_text(errors='replace')[-3000:]}"
        time.sleep(0.1)
    return found[0]


@pytest.mark.slow
def test_a_stop_of_the_trainer_is_saved_and_goes_on(tmp_path: Path) -> None:
    options = [
        "tracking.mlflow=false",
        "run.stages=[source]",
        "source.steps=100000",
        "checkpoint.every=50000",
        "run.log_every=1",
    ]
    command = [
        sys.executable,
        str(ROOT / "launch" / "agent.py"),
        "-m",
        "esl_dist.train",
        "--config",
        "configs/smoke.yaml",
        *options,
    ]
    command += [f"run.dir={tmp_path / 'run'}", f"data.root={tmp_path / 'data'}"]
    stopped = 0
    for start in (1, 2):
        log = tmp_path / f"log{start}"
        with started(command, log, NPROC="2") as process:
            if start == 2:
                until(log, rf"going on from step {stopped} ")
            until(log, r"source \d+/100000")
            asked = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()
            assert time.monotonic() - asked < 30
        stopped = int(until(log, r"stopping at step \d+").split()[-1])
        assert (tmp_path / "run" / "source" / "checkpoints" / f"step_{stopped:08d}" / "manifest.json").is_file()
