"""launch/agent.py: which torchrun options an environment implies, and a stop that loses nothing and ends with 0."""

from __future__ import annotations

import importlib.util
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cluster.processes import ROOT, WORKER, environment, started, wait_for

AGENT = ROOT / "launch" / "agent.py"
spec = importlib.util.spec_from_file_location("launch_agent", AGENT)
assert spec and spec.loader
agent = importlib.util.module_from_spec(spec)
spec.loader.exec_module(agent)

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="the agent finds its ranks through Linux's /proc"
)


def runs(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("given", "env", "expected"),
    [
        ([], {}, ["--nproc-per-node=2", "--standalone"]),
        ([], {"NPROC": "4"}, ["--nproc-per-node=4", "--standalone"]),
        (["--nproc_per_node=3"], {}, ["--standalone"]),
        ([], {"PET_NNODES": "2", "PET_NPROC_PER_NODE": "8", "PET_MASTER_ADDR": "a"}, []),
        ([], {"PET_NNODES": "2"}, ["--nproc-per-node=2"]),
        (
            ["--nnodes=2", "--rdzv-backend=c10d"],
            {"LOCAL_ADDR": "10.0.0.2"},
            ["--nproc-per-node=2", "--local-addr=10.0.0.2"],
        ),
        ([], {"SLURM_JOB_NUM_NODES": "1"}, ["--nproc-per-node=2", "--standalone"]),
    ],
)
def test_options_follow_the_environment(given: list[str], env: dict[str, str], expected: list[str]) -> None:
    assert agent.torchrun_options(given, env, gpus=False) == expected


def test_slurm_nodes_meet_at_the_first() -> None:
    env = {
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_ID": "7",
        "SLURM_NODEID": "1",
        "MASTER_ADDR": "n1",
        "MASTER_PORT": "23456",
        "SLURM_RESTART_COUNT": "3",
    }
    options = agent.torchrun_options([], env, gpus=True)
    assert options[:2] == ["--nproc-per-node=gpu", "--nnodes=2"]
    assert "--rdzv-endpoint=n1:23456" in options and "--rdzv-id=7-3" in options
    assert "--rdzv-conf=is_host=0,join_timeout=900" in options
    assert "--rdzv-conf=is_host=1,join_timeout=900" in agent.torchrun_options(
        [], {**env, "SLURM_NODEID": "0"}, gpus=True
    )
    del env["MASTER_ADDR"]
    done = subprocess.run(
        [sys.executable, str(AGENT), *WORKER, "done", "."], env=environment(**env), capture_output=True, text=True
    )
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "MASTER_ADDR" in done.stderr


def test_an_existing_rank_is_not_wrapped(tmp_path: Path) -> None:
    env = environment(RANK="5", WORLD_SIZE="8", LOCAL_RANK="1")
    done = subprocess.run([sys.executable, str(AGENT), *WORKER, "done", str(tmp_path)], cwd=ROOT, env=env, timeout=60)
    assert done.returncode == 0
    seen = json.loads((tmp_path / "started-5").read_text())
    assert seen["WORLD_SIZE"] == "8" and seen["TORCHELASTIC_RUN_ID"] is None


@pytest.mark.parametrize(
    ("mode", "number"), [("save", signal.SIGTERM), ("save", signal.SIGUSR1), ("slow-start", signal.SIGTERM)]
)
def test_a_stop_lets_the_ranks_save_and_ends_with_zero(tmp_path: Path, mode: str, number: int) -> None:
    log = tmp_path / "log"
    with started([sys.executable, str(AGENT), *WORKER, mode, str(tmp_path)], log, NPROC="2") as process:
        wait_for(
            [tmp_path / f"{'importing' if mode == 'slow-start' else 'started'}-{rank}" for rank in (0, 1)], process, log
        )
        process.send_signal(number)
        assert process.wait(30) == 0, log.read_text()
    assert {p.name for p in tmp_path.glob("saved-*")} == {"saved-0", "saved-1"}


def test_a_stop_before_any_rank_is_no_failure(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started([sys.executable, str(AGENT), *WORKER, "save", str(tmp_path)], log, NPROC="1") as process:
        while not agent.catches(process.pid, signal.SIGTERM):
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, log.read_text()


def test_deaf_ranks_are_killed_in_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(
        [sys.executable, str(AGENT), *WORKER, "deaf", str(tmp_path)], log, NPROC="1", ESL_STOP_SECONDS="2"
    ) as process:
        wait_for([tmp_path / "started-0"], process, log)
        ranks = [rank for torchrun in agent.children(process.pid) for rank in agent.children(torchrun)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 1
    assert "did not leave within 2 s" in log.read_text()
    end = time.monotonic() + 5
    while alive := [pid for pid in ranks if runs(pid)]:
        assert time.monotonic() < end, f"still running: {alive}"
    assert ranks


def test_a_failure_stays_a_failure(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(AGENT), *WORKER, "fail", str(tmp_path)],
        cwd=ROOT,
        env=environment(NPROC="1"),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1


def test_a_killed_agent_takes_torchrun_along(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started([sys.executable, str(AGENT), *WORKER, "save", str(tmp_path)], log, NPROC="1") as process:
        wait_for([tmp_path / "started-0"], process, log)
        process.kill()
        process.wait()
    end = time.monotonic() + 20
    while not (tmp_path / "saved-0").exists():
        assert time.monotonic() < end, "the rank did not hear that its launcher died"
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--rdzv-endpoint=n1:29400", "--rdzv-conf=is_host=0,join_timeout=9"], "n1:29400"),
        (["--rdzv_endpoint=n1:29400"], "n1:29400"),
        (["--rdzv-endpoint=n1:29400", "--rdzv-conf=is_host=1"], ""),
        (["--standalone"], ""),
    ],
)
def test_the_rendezvous_is_watched_from_other_hosts(options: list[str], expected: str) -> None:
    assert agent.endpoint(options) == expected


def test_a_vanished_head_is_noticed_only_without_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        clock = [100.0]
        monkeypatch.setattr(agent.time, "monotonic", lambda: clock[0])
        head = agent.Head(address, 10)
        for _ in range(5):
            clock[0] += 6
            assert not head.vanished(has_ranks=False)
    clock[0] += 6
    assert not head.vanished(has_ranks=False), "silent, but not for long"
    clock[0] += 6
    assert not head.vanished(has_ranks=True)
    clock[0] += 6
    assert not head.vanished(has_ranks=False), "counted anew"
    clock[0] += 11
    assert head.vanished(has_ranks=False)
    assert not agent.Head("", 0).vanished(has_ranks=False)
