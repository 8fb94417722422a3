"""``metrics.jsonl``: the truth about a run, one JSON object per line, complete after ``kill -9``, a full disk and any
number of resumes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from esl_dist.atomic import write_bytes
from esl_dist.runs import events, lines
from esl_dist.runs.events import Event

log = logging.getLogger(__name__)

# Lines that wait for a disk which refuses them; older ones are lost first.
MAX_WAITING = 10_000
# How the line of a stage's event begins: the others, thousands of them, need not be understood.
_STAGE = b'{"event": "stage"'


class MetricsLog:
    """Appends events to a file; opening it repairs a line that a kill cut short.

    A line is handed to the operating system in one ``write`` (so it survives the process, not a power cut), and forced
    to the disk by ``sync``. A disk that fails is reported once and stops nothing: lines wait in memory until it takes
    them again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        self._failing = False
        self._lost = 0
        self._file = -1
        self._size = 0
        with self._reporting():
            self._open()

    def append(self, event: Event) -> float:
        """Write one line: ``event``, ``time`` and the event's fields; returns the time, Unix seconds. Numbers that are
        not finite become null.
        """
        fields, now = events.to_line(event), round(time.time(), 3)
        line = lines.encode({"event": fields.pop("event"), "time": now, **fields})
        self._lost += len(self._waiting) == MAX_WAITING
        self._waiting.append(line)
        with self._reporting():
            if self._file < 0:
                self._open()
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
            if self._failing:
                what = f"{self._lost} lines were lost" if self._lost else "every waiting line is in it"
                log.warning("%s can be written again; %s", self.path, what)
                self._failing, self._lost = False, 0
        return now

    def knows(self, stage: str) -> bool:
        """Whether the file has an event of a stage's start or end."""
        found = False
        with self._reporting(), open(self.path, "rb") as file:
            found = any(
                isinstance(event := lines.parse(raw).event, events.Stage) and event.stage == stage
                for raw in file
                if raw.startswith(_STAGE)
            )
        return found

    def sync(self) -> None:
        """Force what is written to the disk."""
        with self._reporting():
            if self._file >= 0:
                os.fsync(self._file)

    def truncate_after(self, stage: str, step: int) -> int:
        """Drop the train, eval and gpu lines of ``stage`` beyond ``step``: they will be written again. Returns how many
        there were.

        The file is rewritten aside and renamed, so that a kill leaves the old or the new one. A damaged line is named
        and stays: what it said is not known.
        """
        dropped = 0
        kept: list[bytes] = []
        with self._reporting():
            for line in lines.read(self.path):
                if line.damage:
                    log.warning("%s: line %d %s; it is left out of everything", self.path, line.number, line.damage)
                event = line.event
                beyond = isinstance(event, events.STEP_EVENTS) and event.stage == stage and event.step > step
                dropped += beyond
                if not beyond:
                    kept.append(line.raw if line.raw.endswith(b"\n") else line.raw + b"\n")
            if dropped:
                write_bytes(self.path, b"".join(kept))
                self._close()
                self._open()
        return dropped

    def close(self) -> None:
        self.sync()
        self._close()

    def _open(self) -> None:
        """Open for appending; a last line without its end is completed if it is whole and removed if it is torn."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = os.fstat(self._file).st_size
        tail = self._tail()
        if tail and lines.parse(tail).damage:
            self._size -= len(tail)
            os.ftruncate(self._file, self._size)
            log.info("%s: removed a last line that was cut short", self.path)
        elif tail:
            self._write(b"\n")

    def _tail(self) -> bytes:
        """What follows the last newline."""
        tail = b""
        position = self._size
        while position > 0 and b"\n" not in tail:
            step = min(65536, position)
            position -= step
            tail = os.pread(self._file, step, position) + tail
        return tail.rpartition(b"\n")[2]

    def _write(self, line: bytes) -> None:
        """All of ``line`` or nothing of it."""
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(f"only {written} of {len(line)} bytes were written")
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(line)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    @contextlib.contextmanager
    def _reporting(self) -> Iterator[None]:
        """Nothing outside may stop training: say once that the disk fails, and go on."""
        try:
            yield
        except OSError as error:
            if not self._failing:
                log.warning(
                    "%s cannot be written (%s); training goes on, up to %d lines wait for the disk",
                    self.path,
                    error,
                    MAX_WAITING,
                )
            self._failing = True
