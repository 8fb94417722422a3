"""Standard streams that are closed, full or gone must cost neither a run nor its exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys

from esl_dist.entries.lenient import Lenient


def mend() -> None:
    """Open the null device where a standard stream is closed, before a file takes its number; let writing fail
    quietly.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, "w", encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - kept open
        elif isinstance(stream, io.TextIOWrapper):
            # A name that the terminal's encoding lacks is no reason to end.
            stream.reconfigure(errors="backslashreplace")
        if not isinstance(stream, Lenient):
            setattr(sys, name, Lenient(stream))


def finish() -> None:
    """Put the streams back: what standard output could not take is said on standard error, and Python's own last
    write does not fail on it.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, Lenient):
            continue
        stream.flush()
        setattr(sys, name, stream.stream)
        if stream.failure:
            if name == "stdout":
                lost = f"standard output could not be written ({stream.failure}); results are in their files"
                print(f"esl_dist: note: {lost}", file=sys.stderr)
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
