#!/usr/bin/env python3
"""Start the ranks of this host, and stop them so that nothing is lost:

    python launch/agent.py [torchrun options] -m esl_dist.train [--config FILE] [section.option=value ...]

Four things that torchrun leaves open. Its stores listen on the named address only, on one host the loopback. It reads
how many hosts there are from what started it: Kubeflow's PET_* (torchrun reads those itself), Slurm's SLURM_* with
MASTER_ADDR, an existing RANK (then this process becomes that rank), or nothing: one host. And on SIGTERM, SIGINT or
SIGUSR1 it signals the ranks, not torchrun: they save and leave, torchrun sees them succeed, and the exit code is 0,
where torchrun itself would give 1 after any signal. Ranks that have not left after ESL_STOP_SECONDS (25) are killed.
When the host of the rendezvous has vanished, torchrun waits for the kernel to give up its connection, about 15 minutes:
after ESL_HEAD_SECONDS (120) without ranks and without an answer the agent says so and ends with 1. NPROC=N sets the
ranks of this host (default: its GPUs, or 2 without), LOCAL_ADDR=IP the address its peers reach it by.
"""

from __future__ import annotations

import contextlib
import ctypes
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

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
POLL_S = 0.2
HANDLER_WAIT_S = 10.0
"""A rank that is still importing cannot save, and would die of the signal: it gets so long to be ready for it."""


def torchrun_options(given: Sequence[str], env: Mapping[str, str], gpus: bool) -> list[str]:
    """Options that the environment implies and the command line does not already set.

    Raises:
        ValueError: several Slurm nodes and no MASTER_ADDR.
    """
    options = []
    names = [word.lstrip("-").replace("_", "-").partition("=")[0] for word in given if word.startswith("-")]
    if "nproc-per-node" not in names and "PET_NPROC_PER_NODE" not in env:
        options.append(f"--nproc-per-node={env.get('NPROC') or ('gpu' if gpus else '2')}")
    if env.get("LOCAL_ADDR"):
        options.append(f"--local-addr={env['LOCAL_ADDR']}")
    if any(name in {"standalone", "nnodes"} or name.startswith(("rdzv-", "master-")) for name in names):
        return options
    if any(name in env for name in ("PET_NNODES", "PET_RDZV_ENDPOINT", "PET_MASTER_ADDR")):
        return options
    nodes = int(env.get("SLURM_STEP_NUM_NODES") or env.get("SLURM_JOB_NUM_NODES") or "1")
    if nodes == 1:
        return [*options, "--standalone"]
    if "MASTER_ADDR" not in env:
        raise ValueError(
            f"{nodes} Slurm nodes and no MASTER_ADDR: start through launch/slurm.sbatch, or export MASTER_ADDR=<first"
            " node> and MASTER_PORT"
        )
    # A requeued job keeps its id: with the restart count no late process of the attempt before can join.
    attempt = f"{env.get('SLURM_JOB_ID', 'job')}-{env.get('SLURM_RESTART_COUNT', '0')}"
    return [
        *options,
        f"--nnodes={nodes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={env['MASTER_ADDR']}:{env.get('MASTER_PORT', '29400')}",
        f"--rdzv-id={attempt}",
        f"--rdzv-conf=is_host={int(env.get('SLURM_NODEID', '0') == '0')},join_timeout=900",
        "--max-restarts=3",
    ]


def has_gpus() -> bool:
    """Whether this host shows an NVIDIA device (without the seconds and the memory that importing torch would cost)."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") != "" and any(
        p.name[6:].isdigit() for p in Path("/dev").glob("nvidia*")
    )


def children(pid: int) -> set[int]:
    """The direct children of a process that still run: torchrun's are its ranks."""
    found: set[int] = set()
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # that thread has just ended
            found.update(int(word) for word in listing.read_text().split())
    return {child for child in found if re.search(r"^State:\s+[^ZX]", read_status(child), re.M)}


def read_status(pid: int) -> str:
    """``/proc/<pid>/status``; empty where the process is gone."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal; False where it is gone."""
    mask = next((int(line.split()[1], 16) for line in read_status(pid).splitlines() if line.startswith("SigCgt:")), 0)
    return bool(mask >> (number - 1) & 1)


def die_with_parent() -> None:
    """In the child: SIGTERM when the agent dies, however it dies, so that no torchrun stays behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def say(text: str) -> None:
    print(f"agent: {text}", file=sys.stderr, flush=True)


def kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # already gone is what was wanted
        os.kill(pid, number)


class Stopper:
    """From the first stop signal to the end of torchrun."""

    def __init__(self, torchrun: int, seconds: float) -> None:
        self.torchrun = torchrun
        self.seconds = seconds
        self.asked: float | None = None
        self.ranks: set[int] = set()
        self.told: set[int] = set()

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Signal handler: only notes the time and the ranks."""
        if self.asked is None:
            self.asked = time.monotonic()
            self.ranks = children(self.torchrun)

    def poll(self) -> bool:
        """Pass the signal on to ranks that are ready for it; False once the time is up."""
        if self.asked is None:
            return True
        waited = time.monotonic() - self.asked
        # No rank yet, or torchrun has started new ones: nothing is lost if it goes.
        if not self.ranks or children(self.torchrun) - self.ranks:
            kill(self.torchrun, signal.SIGTERM)
            return waited < self.seconds
        for rank in self.ranks - self.told:
            if catches(rank, signal.SIGTERM) or waited > HANDLER_WAIT_S:
                kill(rank, signal.SIGTERM)
                self.told.add(rank)
        return waited < self.seconds


class Head:
    """Whether the host of the rendezvous still answers, asked only while this host has no ranks."""

    def __init__(self, endpoint: str, seconds: float) -> None:
        self.name = endpoint
        host, _, port = endpoint.rpartition(":")
        self.address = (host.strip("[]"), int(port)) if host and port.isdigit() else None
        self.seconds = seconds
        self.silent_since: float | None = None
        self.next_try = 0.0

    def vanished(self, has_ranks: bool) -> bool:
        now = time.monotonic()
        if self.address is None or has_ranks:
            self.silent_since = None
        elif now >= self.next_try:
            self.next_try = now + 5
            try:
                socket.create_connection(self.address, timeout=3).close()
                self.silent_since = None
            except OSError:
                self.silent_since = self.silent_since or now
        return self.silent_since is not None and now - self.silent_since > self.seconds


def endpoint(options: Sequence[str]) -> str:
    """``host:port`` of a rendezvous that another host holds; empty where there is none."""
    words = [word.lstrip("-").replace("_", "-").partition("=")[::2] for word in options]
    values = dict(words)
    return "" if "is-host=1" in values.get("rdzv-conf", "").replace("_", "-") else values.get("rdzv-endpoint", "")


def reap(wanted: int) -> int | None:
    """Collect ended children (as PID 1 of a container also strangers' orphans); the exit code of ``wanted`` once it has
    one.
    """
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return 1
        if pid == 0:
            return None
        if pid == wanted:
            return os.waitstatus_to_exitcode(status)


def supervise(command: Sequence[str], seconds: float, head: Head) -> int:
    """Run torchrun to its end: its exit code, or after a stop signal 0 if the ranks left by themselves."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # none may fall between start and handler

    def prepare() -> None:
        die_with_parent()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    # Its own session: Ctrl-C of a terminal reaches the agent alone.
    torchrun = subprocess.Popen(command, start_new_session=True, preexec_fn=prepare)
    stopper = Stopper(torchrun.pid, seconds)
    for number in STOP_SIGNALS:
        signal.signal(number, stopper.ask)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    while (code := reap(torchrun.pid)) is None:
        if not stopper.poll():
            say(
                f"the ranks did not leave within {seconds:g} s of the signal and are killed; the newest checkpoint is"
                " the state to go on from"
            )
            for pid in (*children(torchrun.pid), torchrun.pid):
                kill(pid, signal.SIGKILL)
            return 1
        if head.vanished(has_ranks=bool(children(torchrun.pid))):
            say(
                f"error: no answer from the host of the rendezvous, {head.name}, for {head.seconds:g} s: start the same"
                " command on all hosts again, it goes on"
            )
            kill(torchrun.pid, signal.SIGKILL)
            return 1
        time.sleep(POLL_S)
    if stopper.asked is not None and not stopper.ranks:
        return 0  # stopped before any rank had started
    return 128 - code if code < 0 else code


def main(arguments: Sequence[str]) -> int:
    if "-m" not in arguments:
        print(__doc__, file=sys.stderr)
        return 2
    split = arguments.index("-m")
    given, program = list(arguments[:split]), list(arguments[split:])
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ and not given:
        os.execv(sys.executable, [sys.executable, *program])
    try:
        implied = torchrun_options(given, os.environ, has_gpus())
    except ValueError as error:
        say(f"error: {error}")
        return 2
    # With torchrun's shared store the survivors announce their address in the first round only, and an agent that
    # replaces a lost
    # one would wait for it in vain; without sharing every round announces it anew.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    head = Head(endpoint([*implied, *given]), float(os.environ.get("ESL_HEAD_SECONDS", "120")))
    return supervise(
        [sys.executable, "-m", "esl_dist.distributed.torchrun", *implied, *given, *program],
        float(os.environ.get("ESL_STOP_SECONDS", "25")),
        head,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
