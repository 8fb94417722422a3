"""The lock between processes, signals, and what happens to workers whose launcher dies."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from esl_dist.engine.guards import RunLock, StopFlag
from tests.ranks import ROOT

HOLDER = """
import os, sys, time
from pathlib import Path
from esl_dist.engine.guards import RunLock
RunLock(Path(sys.argv[1])).acquire()
if len(sys.argv) > 2:
    child = os.fork()  # a loader process that outlives its rank
    if child == 0:
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
else:
    print("held", flush=True)
time.sleep(60)
"""


def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def test_a_second_start_learns_who_holds_the_folder(tmp_path: Path) -> None:
    holder = start(HOLDER, str(tmp_path))
    try:
        assert line(holder) == "held"
        with pytest.raises(ValueError, match=f"in use by pid {holder.pid} on host {re.escape(socket.gethostname())}"):
            RunLock(tmp_path).acquire()
    finally:
        kill(holder)
    # Killed with -9: its file is there, its lock is not.
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == holder.pid
    with RunLock(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert (tmp_path / ".lock").read_text() == ""


def test_a_loader_that_outlives_its_rank_holds_no_lock(tmp_path: Path) -> None:
    holder = start(HOLDER, str(tmp_path), "fork")
    child = int(line(holder))
    kill(holder)
    try:
        os.kill(child, 0)  # still there
        with RunLock(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_damaged_lock_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"\xff{")
    with RunLock(tmp_path):
        pass


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"run\.dir"):
        RunLock(tmp_path / "file" / "run").acquire()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_signal_only_sets_the_flag_and_handlers_come_back(number: int) -> None:
    before = signal.getsignal(number)
    with StopFlag() as stop:
        assert not stop.local
        signal.raise_signal(number)
        assert stop.local
    assert signal.getsignal(number) is before


def test_a_second_interrupt_means_it() -> None:
    with StopFlag() as stop:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.local


def test_a_forked_loader_dies_of_a_signal() -> None:
    """The handler is inherited; a loader that only set a flag could never be ended by its rank."""
    with StopFlag() as stop:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, b"x")
            time.sleep(30)
            os._exit(7)
        os.read(reading, 1)
        os.close(reading)
        os.close(writing)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGTERM
        assert not stop.local


LAUNCHER = """
import subprocess, sys, time
worker = '''
import time
from esl_dist.engine.guards import die_with_parent
die_with_parent()
print("up", flush=True)
time.sleep(60)
'''
process = subprocess.Popen([sys.executable, "-c", worker], stdout=subprocess.PIPE, text=True, start_new_session=True)
process.stdout.readline()
print(process.pid, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
@pytest.mark.parametrize("torchrun", [True, False], ids=["under-torchrun", "alone"])
def test_kill_9_of_the_launcher(torchrun: bool) -> None:
    """A worker of torchrun goes with it; a run started by hand outlives its shell."""
    launcher = start(LAUNCHER, **({"TORCHELASTIC_RUN_ID": "x"} if torchrun else {}))
    worker = int(line(launcher))
    kill(launcher)
    end = time.monotonic() + (10 if torchrun else 0.5)
    while alive(worker) and time.monotonic() < end:
        time.sleep(0.02)
    try:
        assert alive(worker) is not torchrun
    finally:
        if alive(worker):
            os.kill(worker, signal.SIGKILL)
