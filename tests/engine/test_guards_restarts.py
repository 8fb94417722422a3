"""``torchrun --max-restarts``: the store that outlives an attempt must not confuse the next one."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from esl_dist.distributed.rendezvous import join
from tests.ranks import ROOT, free_port

ATTEMPTS = 4


def attempt() -> None:
    """Attempts 0 and 2 lose a rank inside the group, attempt 1 loses rank 1 before it has joined; the last one ends
    well.
    """
    number, rank = int(os.environ["TORCHELASTIC_RESTART_COUNT"]), int(os.environ["RANK"])
    if number == 1 and rank == 1:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)
    timeout = datetime.timedelta(seconds=60)
    store, rank, world = join(timeout)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timeout)
    total = torch.ones(1)
    dist.all_reduce(total)
    print(f"\nattempt {number} rank {rank} sees {int(total)} ranks", flush=True)
    if number < ATTEMPTS - 1:
        if rank == number % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        dist.all_reduce(total)
    dist.destroy_process_group()


@pytest.mark.parametrize("rendezvous", ["static", pytest.param("standalone", marks=pytest.mark.slow)])
def test_ranks_that_come_back_find_each_other(tmp_path: Path, rendezvous: str) -> None:
    script = tmp_path / "rank.py"
    script.write_text("from tests.engine.test_guards_restarts import attempt\n\nattempt()\n")
    how = (
        ["--standalone"] if rendezvous == "standalone" else ["--master_addr=127.0.0.1", f"--master_port={free_port()}"]
    )
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        *how,
        f"--max-restarts={ATTEMPTS - 1}",
        str(script),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == 0, said[-3000:]
    for rank in range(2):
        assert f"attempt {ATTEMPTS - 1} rank {rank} sees 2 ranks" in said, said[-3000:]
