"""Ranks without torchrun: who listens, how a stop, a mistake and a death end, and that nobody stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esl_dist.launcher import LAUNCHER, ranks_of
from tests.entries.sockets import descendants, listening, outside

ROOT = Path(__file__).resolve().parents[2]
BODY = (
    "import sys; from esl_dist.launcher import launch;"
    " sys.exit(launch([sys.executable, '-m', 'tests.entries.rank', *sys.argv[1:]], 2, 20))"
)


def start(mode: str, folder: Path, *launcher: str) -> subprocess.Popen[str]:
    command = [sys.executable, *(launcher or ("-c", BODY)), mode, str(folder)]
    environment = {
        key: value for key, value in os.environ.items() if key not in ("RANK", "WORLD_SIZE", "OMP_NUM_THREADS")
    }
    environment |= {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(paths: list[Path], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not all(path.exists() for path in paths):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.02)


TORCHRUN = ("-m", "esl_dist.distributed.torchrun", "--standalone", "--nproc-per-node=2", "-m", "tests.entries.rank")


@pytest.mark.parametrize("launcher", [(), TORCHRUN], ids=["own", "torchrun"])
def test_everything_that_listens_listens_on_the_loopback(launcher: tuple[str, ...], tmp_path: Path) -> None:
    process = start("wait", tmp_path, *launcher)
    wait_for([tmp_path / f"listening-{rank}" for rank in (0, 1)], process)
    time.sleep(0.2)
    everybody = [place for pid in descendants(process.pid) for place in listening(pid)]
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert len(everybody) >= 3  # the store, and gloo of each rank
    assert outside(everybody) == []
    assert {path.name for path in tmp_path.glob("saved-*")} == {"saved-0", "saved-1"}
    assert launcher or (process.returncode, said) == (0, "")
    assert "OMP_NUM_THREADS" not in said  # torchrun's banner


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGUSR1, marks=pytest.mark.slow)])
def test_a_stop_is_saved_and_ends_with_zero_and_no_word(number: int, tmp_path: Path) -> None:
    process = start("wait", tmp_path)
    wait_for([tmp_path / f"listening-{rank}" for rank in (0, 1)], process)
    process.send_signal(number)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said) == (0, "", "")
    assert len(list(tmp_path.glob("saved-*"))) == 2


def test_a_stop_before_anything_could_be_saved_has_the_signals_code(tmp_path: Path) -> None:
    process = start("wait", tmp_path)
    while len(descendants(process.pid)) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=60)
    assert (process.returncode, out, said) == (128 + signal.SIGTERM, "", "")


@pytest.mark.parametrize(
    ("mode", "code", "line"),
    [
        pytest.param("all", 2, "esl_dist: error: nobody can begin", marks=pytest.mark.slow),
        ("before", 2, "esl_dist: error (rank 1): rank 1 alone cannot begin"),
        ("one", 2, "esl_dist: error (rank 1): rank 1 alone has a fault"),
        pytest.param("kill", 137, "esl_dist: error (rank 1): Signal 9 (SIGKILL) ended it", marks=pytest.mark.slow),
    ],
)
def test_whoever_fails_is_named_once(mode: str, code: int, line: str, tmp_path: Path) -> None:
    process = start(mode, tmp_path)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert said.count(line) == 1 and "Traceback" not in said and len(said.splitlines()) <= 3, said


@pytest.mark.slow
def test_a_killed_launcher_leaves_nobody_behind(tmp_path: Path) -> None:
    process = start("wait", tmp_path)
    wait_for([tmp_path / f"listening-{rank}" for rank in (0, 1)], process)
    ranks = descendants(process.pid)[1:]
    process.kill()
    process.communicate(timeout=60)
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in ranks):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert len(list(tmp_path.glob("saved-*"))) == 2


@pytest.mark.parametrize("text", ["0", "-1", "two", "", "1.5", "100000"])
def test_a_number_of_ranks_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"--nproc: .* is neither a number of ranks"):
        ranks_of(text)
    assert ranks_of("3") == 3 and LAUNCHER
