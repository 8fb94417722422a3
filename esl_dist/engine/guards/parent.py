"""No worker outlives its launcher."""

from __future__ import annotations

import os
import signal
import sys

from esl_dist.launcher import LAUNCHER
from esl_dist.processes import end_with


def die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the launcher dies, so that ``kill -9`` of it leaves no worker behind.

    Does nothing without one (a run started with ``nohup`` survives its shell) and on systems other than Linux.
    """
    if not {"TORCHELASTIC_RUN_ID", LAUNCHER} & os.environ.keys() or not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    # It may have died before the kernel was asked: then somebody else is the parent by now.
    if not end_with(parent, signal.SIGTERM) or not _launched_torch(parent):
        os.kill(os.getpid(), signal.SIGTERM)


def _launched_torch(parent: int) -> bool:
    """Whether ``parent`` may be the launcher: process 1 is one only if its command line says so (a container that
    starts torchrun).
    """
    if parent != 1:
        return True
    try:
        with open("/proc/1/cmdline", "rb") as file:
            command = file.read()
            return b"torch" in command or b"esl_dist" in command
    except OSError:
        return True
