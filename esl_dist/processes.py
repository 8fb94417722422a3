"""Processes that this package starts: they find the package, and they end with whoever started them."""

from __future__ import annotations

import ctypes
import os
import sys
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
