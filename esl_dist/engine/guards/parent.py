"""No worker outlives its launcher."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when torchrun dies, so that ``kill -9`` of it leaves no worker behind.

    Does nothing outside torchrun (a run started with ``nohup`` survives its shell) and on systems other than Linux.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # It may have died before the kernel was asked: then somebody else is the parent by now.
    if os.getppid() != parent or not _launched_torch(parent):
        os.kill(os.getpid(), signal.SIGTERM)


def _launched_torch(parent: int) -> bool:
    """Whether ``parent`` may be the launcher: process 1 is one only if its command line says so (a container that starts torchrun)."""
    if parent != 1:
        return True
    try:
        with open("/proc/1/cmdline", "rb") as file:
            return b"torch" in file.read()
    except OSError:
        return True
