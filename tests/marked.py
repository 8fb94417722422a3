"""Everything that a start has set running, found by a mark in the environment that children inherit: launchers, ranks,
helpers of libraries.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from pathlib import Path

NAME = "ESL_TEST_MARK"


def new_mark() -> dict[str, str]:
    """A variable for the environment of one start, that no other start has."""
    return {NAME: uuid.uuid4().hex}


def processes(mark: dict[str, str]) -> dict[int, str]:
    """Pid -> command line of every live process with ``mark``."""
    found, wanted = {}, f"{NAME}={mark[NAME]}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                if state not in "ZX" and wanted in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (
                        (folder / "cmdline").read_bytes().replace(bytes(1), b" ").decode(errors="replace")[:150]
                    )
            except OSError:
                continue
    return found


def left(mark: dict[str, str], limit: float) -> dict[int, str]:
    """What still runs ``limit`` seconds from now; returns as soon as nothing does."""
    end = time.monotonic() + limit
    while (found := processes(mark)) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def kill(mark: dict[str, str]) -> None:
    """``kill -9`` for all of them."""
    for pid in processes(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
