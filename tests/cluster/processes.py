"""Start a launcher in a test and wait for what its ranks write."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
WORKER = ("-m", "tests.cluster.worker")
# What the machine that runs the tests may itself have set.
FOREIGN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NPROC", "LOCAL_ADDR")


def environment(**extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in FOREIGN and not k.startswith(("SLURM_", "PET_", "ESL_"))}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **extra}


@contextmanager
def started(command: list[str], log: Path, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a session of its own; whatever of it is left is killed at the end."""
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(**extra),
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(paths: list[Path], process: subprocess.Popen[bytes], log: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not all(path.exists() for path in paths):
        assert process.poll() is None, f"ended early with {process.returncode}:\n{log.read_text()[-3000:]}"
        assert time.monotonic() < end, (
            f"not there after {seconds} s: {[p.name for p in paths if not p.exists()]}\n{log.read_text()[-3000:]}"
        )
        time.sleep(0.1)
