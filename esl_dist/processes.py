"""Processes that this package starts: they find the package, end with whoever started them, and share the cores."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def python_path() -> str:
    """``PYTHONPATH`` under which a child imports this very package, wherever it runs."""
    return os.pathsep.join(filter(None, (str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", ""))))


def end_with(parent: int, number: int) -> bool:
    """Ask the kernel for signal ``number`` when this process' parent ends; whether ``parent`` is still the parent (if
    not, no signal will come).

    Systems other than Linux only answer.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    return os.getppid() == parent


def cores() -> int:
    """CPU cores that this process may keep busy, 1 or more.

    Those that it is bound to, but no more than the time that its container is given (``docker run --cpus``, a limit in
    Kubernetes): a container of 4 on a machine of 128 sees 128, and is stopped most of the time if it uses them.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = Path("/proc/self/cgroup")
    with contextlib.suppress(OSError):
        bound = min([bound, *_quotas(Path("/sys/fs/cgroup"), own.read_text())])
    return max(1, bound)


def _quotas(mounted: Path, own: str) -> Iterator[int]:
    """Cores, rounded up, that control groups of version 1 or 2 allow a process.

    Args:
        mounted: where the groups' folders are.
        own: what ``/proc/self/cgroup`` says. In a container it may name a group by a path that only the host has; then
            what is mounted is the group.
    """
    for line in own.splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not path or controllers not in ("", "cpu", "cpu,cpuacct"):
            continue
        inside = mounted / controllers
        group = inside / path.lstrip("/")
        for folder in (group, *group.parents):
            yield from _limit(folder)
            if folder == inside:
                break


def _limit(folder: Path) -> Iterator[int]:
    """Of one group, where it has one."""
    with contextlib.suppress(OSError, ArithmeticError, ValueError):
        quota, period = (folder / "cpu.max").read_text().split()
        if quota != "max":
            yield math.ceil(int(quota) / int(period))
    with contextlib.suppress(OSError, ArithmeticError, ValueError):
        quota, period = ((folder / f"cpu.cfs_{word}_us").read_text() for word in ("quota", "period"))
        if int(quota) > 0:
            yield math.ceil(int(quota) / int(period))
