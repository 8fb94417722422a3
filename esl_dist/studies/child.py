"""A training as a child process: an entry on its ranks, its output in a file, ended by a signal that lets it save."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from esl_dist.processes import python_path
from esl_dist.studies.record import log_tail

STOP_S = 60.0
"""For a child to save and leave after SIGTERM; its launcher kills ranks that do not follow within a minute."""

_REASONS = (
    re.compile(r"esl_dist: error(?: \(rank \d+\))?: (.*)"),
    re.compile(r"(?:\[rank\d+\]: ?)?((?!torch\.)[\w.]+(?:Error|Exception): .*)"),
)


class Child:
    """A running ``esl_dist COMMAND ARGUMENTS`` on ``world`` ranks."""

    def __init__(
        self,
        world: int,
        command: str,
        arguments: Sequence[str],
        run_dir: Path,
        log: Path,
        cwd: str,
        environment: Mapping[str, str],
    ) -> None:
        words = [
            sys.executable,
            "-m",
            "esl_dist.studies.launch",
            str(os.getpid()),
            str(run_dir),
            str(world),
            command,
            *arguments,
        ]
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with open(log, "ab") as out:
            # A session of its own: a Ctrl-C at the terminal is the driver's, who stops trials in order.
            self._process = subprocess.Popen(
                words,
                cwd=cwd,
                env={**os.environ, "PYTHONPATH": python_path(), **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def code(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """SIGTERM, so that it saves and leaves; SIGKILL if it does not."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def reason(self) -> str:
        """Why it failed, in one line: what the program said, the first exception or signal that torchrun tells of, or
        the last line of its output.
        """
        lines = [line for line in log_tail(self._log, 200) if line.strip()]
        for pattern in _REASONS:
            found = [match.group(1) for line in lines if (match := pattern.match(line))]
            if found:
                return found[-1].strip()
        return lines[-1].strip() if lines else f"ended with code {self._process.poll()} and said nothing"
