"""launch/slurm.sbatch against stand-ins for srun and scontrol: two nodes on this machine, USR1, requeue, exit codes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.processes import ROOT, environment, started, wait_for

SRUN = """#!{python}
# One agent per node, as srun with one task a node; signals go on to the tasks; with --kill-on-bad-exit the first
# failure ends all.
import os, signal, subprocess, sys
words = sys.argv[1:]
while words and words[0].startswith("--"):
    words.pop(0)
nodes = int(os.environ["SLURM_JOB_NUM_NODES"])
tasks = [
    subprocess.Popen(
        words, env={{**os.environ, "SLURM_NODEID": str(n), "SLURM_PROCID": str(n)}}, start_new_session=True
    )
    for n in range(nodes)
]
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, frame: [task.send_signal(number) for task in tasks])
sys.exit(max(abs(task.wait()) for task in tasks))
"""
SCONTROL = """#!/bin/sh
echo "$@" >> "$FAKE_LOG"
case "$1 $2" in
  "show hostnames") printf '127.0.0.1\\nnode2\\n' ;;
  "requeue "*) exit "${FAKE_REQUEUE_FAILS:-0}" ;;
esac
"""
# The script starts esl_dist.train with the python it is told: this one puts the test's worker in its place.
PYTHON = """#!/bin/sh
agent=$1; shift 3
exec {python} "$agent" -m tests.cluster.worker "$FAKE_MODE" "$FAKE_FOLDER" "$@"
"""


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """Environment of a Slurm job on two nodes of this machine."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("python", PYTHON)):
        (tools / name).write_text(text.format(python=sys.executable) if name != "scontrol" else text)
        (tools / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHON": str(tools / "python"),
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_JOB_NUM_NODES": "2",
        # The script's port is 20000 + id modulo 10000: an id whose port is probably free.
        "SLURM_JOB_ID": str(port % 10000),
        "NPROC": "1",
        "FAKE_LOG": str(tmp_path / "scontrol.log"),
        "FAKE_FOLDER": str(tmp_path),
    }


def sbatch(*arguments: str) -> list[str]:
    return [str(shutil.which("bash")), str(ROOT / "launch" / "slurm.sbatch"), *arguments]


def requeued(env: dict[str, str]) -> bool:
    return f"requeue {env['SLURM_JOB_ID']}" in Path(env["FAKE_LOG"]).read_text().splitlines()


def test_the_time_limit_saves_and_requeues(cluster: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(sbatch("run.name=x", "--config", "a b.yaml"), log, **cluster, FAKE_MODE="save") as process:
        wait_for([tmp_path / "started-0", tmp_path / "started-1"], process, log, 120)
        process.send_signal(signal.SIGUSR1)  # what --signal=B:USR1@300 does: the batch shell alone gets it
        assert process.wait(60) == 0, log.read_text()
    assert {p.name for p in tmp_path.glob("saved-*")} == {"saved-0", "saved-1"}
    assert requeued(cluster)
    seen = [json.loads((tmp_path / f"started-{rank}").read_text()) for rank in (0, 1)]
    assert [s["WORLD_SIZE"] for s in seen] == ["2", "2"] and [s["LOCAL_RANK"] for s in seen] == ["0", "0"]
    assert {s["TORCHELASTIC_RUN_ID"] for s in seen} == {f"{cluster['SLURM_JOB_ID']}-0"}
    assert seen[0]["arguments"] == ["run.name=x", "--config", "a b.yaml"]


def test_ranks_that_cannot_save_in_time_are_requeued_all_the_same(cluster: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(sbatch(), log, **cluster, FAKE_MODE="deaf", ESL_STOP_SECONDS="2") as process:
        wait_for([tmp_path / "started-0", tmp_path / "started-1"], process, log, 120)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(60) == 0, log.read_text()
    assert requeued(cluster)
    assert "going on from the newest checkpoint" in log.read_text()


def test_scancel_saves_and_does_not_requeue(cluster: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(sbatch(), log, **cluster, FAKE_MODE="save") as process:
        wait_for([tmp_path / "started-0", tmp_path / "started-1"], process, log, 120)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
    assert {p.name for p in tmp_path.glob("saved-*")} == {"saved-0", "saved-1"}
    assert not requeued(cluster)


@pytest.mark.parametrize(("mode", "code"), [("done", 0), ("fail", 1)])
def test_an_end_by_itself_keeps_its_exit_code(cluster: dict[str, str], tmp_path: Path, mode: str, code: int) -> None:
    # One node: a failing rank is then not restarted three times.
    env = environment(**{**cluster, "SLURM_JOB_NUM_NODES": "1"}, FAKE_MODE=mode)
    done = subprocess.run(sbatch(), cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    assert not requeued(cluster)


def test_a_requeue_that_slurm_refuses_is_told(cluster: dict[str, str], tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(
        sbatch(), log, **{**cluster, "SLURM_JOB_NUM_NODES": "1"}, FAKE_MODE="save", FAKE_REQUEUE_FAILS="1"
    ) as process:
        wait_for([tmp_path / "started-0"], process, log)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(60) == 1
    assert "submit it again" in log.read_text()
