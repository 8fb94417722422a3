"""The ranks of one host, started without torchrun: what ``esl_dist train --nproc N`` and a study's trials run on.

torchrun keeps a store that listens on every interface and unpickles what lies in it, and it wraps each clean end in a
traceback of its own. Here rank 0 gets a socket that already listens, on the loopback alone; signals go to the ranks,
which save and leave; and the exit code is theirs. Between hosts torchrun stays: see launch/agent.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from esl_dist.processes import end_with, python_path

STORE_FD, LAUNCHER = "ESL_DIST_STORE_FD", "ESL_DIST_LAUNCHER"
"""Environment of a rank: the listening socket (rank 0's), the process that started it."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
POLL_S = 0.05
TOGETHER_S = 5.0
"""Ranks that fail together leave within this; those that have not are told to."""
READY_S = 10.0
"""A rank that is still importing cannot save: it gets so long to be ready for a signal."""
STOP_S = 60.0
"""For the ranks to save and leave after a signal."""


def launch(command: Sequence[str], ranks: int, stop_s: float = STOP_S) -> int:
    """Run ``command`` as that many ranks to their end.

    Returns:
        0 if every rank ended so, also after a signal; the code of the first rank that failed; 128 + number where a
        signal met ranks that had nothing to save yet.
    """
    with socket.create_server(("127.0.0.1", 0)) as store:
        asked: list[int] = []

        def ask(number: int, frame: FrameType | None) -> None:
            asked.append(number)

        # None may fall between start and handler; the ranks begin with the mask that was.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        before = {number: signal.signal(number, ask) for number in SIGNALS}
        try:
            started = [_start(command, rank, ranks, store, mask) for rank in range(ranks)]
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            store.close()  # rank 0 holds it now
            return _Watch(started, asked, stop_s).run()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in before.items():
                signal.signal(number, handler)


def ranks_of(text: str) -> int:
    """What ``--nproc`` says: a number, or ``gpu`` for one rank per NVIDIA device of this machine.

    Raises:
        ValueError: neither.
    """
    if text == "gpu":
        found = sum(path.name[6:].isdigit() for path in Path("/dev").glob("nvidia*"))
        if not found:
            raise ValueError("--nproc: gpu was asked for, but this machine shows no /dev/nvidia*; give a number")
        return found
    if not re.fullmatch(r"[1-9]\d{0,3}", text):
        raise ValueError(f"--nproc: {text!r} is neither a number of ranks (1 to 9999) nor gpu")
    return int(text)


def _start(
    command: Sequence[str], rank: int, ranks: int, store: socket.socket, mask: set[int | signal.Signals]
) -> subprocess.Popen[bytes]:
    parent = os.getpid()

    def prepare() -> None:
        end_with(parent, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    passed = (store.fileno(),) if rank == 0 else ()
    environment = {
        **os.environ,
        **_environment(rank, ranks, store.getsockname()[1]),
        **({STORE_FD: str(store.fileno())} if passed else {}),
    }
    # A session of its own: Ctrl-C of a terminal reaches the launcher alone, which passes it on once.
    return subprocess.Popen(command, env=environment, pass_fds=passed, preexec_fn=prepare, start_new_session=True)


def _environment(rank: int, ranks: int, port: int) -> Mapping[str, str]:
    """What torchrun would say of a rank."""
    same = {
        "WORLD_SIZE": ranks,
        "LOCAL_WORLD_SIZE": ranks,
        "GROUP_RANK": 0,
        "GROUP_WORLD_SIZE": 1,
        "MASTER_PORT": port,
        "PYTHONPATH": python_path(),
        LAUNCHER: os.getpid(),
    }
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")} if ranks > 1 else {}
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "MASTER_ADDR": "127.0.0.1",
        **{key: str(value) for key, value in same.items()},
        **threads,
    }


class _Watch:
    """From the start of the ranks to the end of the last."""

    def __init__(self, ranks: Sequence[subprocess.Popen[bytes]], asked: list[int], stop_s: float) -> None:
        self._ranks, self._asked, self._stop_s = ranks, asked, stop_s
        self._told = [0] * len(ranks)
        self._failed: tuple[int, int] | None = None
        self._since = 0.0

    def run(self) -> int:
        while self._running():
            if self._failed is None:
                self._notice_failure()
            if self._failed is not None:
                self._clear_away()
            elif self._asked:
                self._pass_on()
            time.sleep(POLL_S)
        self._notice_failure()
        if self._failed is None:
            return 0
        rank, code = self._failed
        if code >= 0:
            return code
        if -code not in self._asked:
            name = signal.Signals(-code).name
            memory = ": the system kills so when memory runs out" if -code == signal.SIGKILL else ""
            print(
                f"esl_dist: error (rank {rank}): Signal {-code} ({name}) ended it{memory}", file=sys.stderr, flush=True
            )
        return 128 - code

    def _running(self) -> list[int]:
        return [rank for rank, process in enumerate(self._ranks) if process.poll() is None]

    def _notice_failure(self) -> None:
        codes = [(rank, process.poll()) for rank, process in enumerate(self._ranks)]
        # A rank that was told to leave is not why the others did.
        failed = sorted(((code < 0, rank, code) for rank, code in codes if code))
        if failed and self._failed is None:
            _, rank, code = failed[0]
            self._failed, self._since = (rank, code), time.monotonic()

    def _clear_away(self) -> None:
        """The others cannot go on without the rank that failed."""
        waited = time.monotonic() - self._since
        for rank in self._running():
            if waited > self._stop_s:
                self._ranks[rank].kill()
            elif not self._told[rank] and (waited > TOGETHER_S or not catches(self._ranks[rank].pid, signal.SIGTERM)):
                self._tell(rank, signal.SIGTERM)

    def _pass_on(self) -> None:
        """Every signal once to every rank that is ready for it; to all where none is: nothing is then lost."""
        self._since = self._since or time.monotonic()
        waited = time.monotonic() - self._since
        running = self._running()
        ready = [rank for rank in running if catches(self._ranks[rank].pid, signal.SIGTERM)]
        for rank in running:
            if waited > self._stop_s:
                self._ranks[rank].kill()
            elif self._told[rank] < len(self._asked) and (rank in ready or not ready or waited > READY_S):
                self._tell(rank, self._asked[self._told[rank]])

    def _tell(self, rank: int, number: int) -> None:
        self._told[rank] += 1
        with contextlib.suppress(ProcessLookupError):
            self._ranks[rank].send_signal(number)


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal; False where it is gone, or where the system does not say (no
    ``/proc``).
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    mask = next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:")), 0)
    return bool(mask >> (number - 1) & 1)
