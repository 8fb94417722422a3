"""``metrics.jsonl``: the truth about a run, one JSON object per line, complete after ``kill -9``, a full disk and any
number of resumes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from esl_dist.atomic import write_bytes

log = logging.getLogger(__name__)

# Events that belong to a step, so that a resume must drop those beyond its checkpoint.
STEP_EVENTS = ("train", "eval", "gpu")
# Lines that wait for a disk which refuses them; older ones are lost first.
MAX_WAITING = 10_000


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

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one line: ``event``, ``time`` (Unix seconds) and ``fields``; returns it. Numbers that are not finite
        become null.
        """
        record = {"event": event, "time": round(time.time(), 3), **fields}
        self._lost += len(self._waiting) == MAX_WAITING
        self._waiting.append(_encode(record))
        with self._reporting():
            if self._file < 0:
                self._open()
            while self._waiting:
                self._write(self._waiting[0])
                self._waiting.popleft()
            if self._failing:
                log.warning(
                    "%s can be written again; %s",
                    self.path,
                    f"{self._lost} lines were lost" if self._lost else "every waiting line is in it",
                )
                self._failing, self._lost = False, 0
        return record

    def sync(self) -> None:
        """Force what is written to the disk."""
        with self._reporting():
            if self._file >= 0:
                os.fsync(self._file)

    def truncate_after(self, stage: str, step: int) -> int:
        """Drop the train, eval and gpu lines of ``stage`` beyond ``step``: they will be written again. Returns how many
        there were.

        The file is rewritten aside and renamed, so that a kill leaves the old or the new one.
        """
        dropped = 0
        kept: list[bytes] = []
        with self._reporting():
            for line, record in _lines(self.path):
                beyond = (
                    record.get("event") in STEP_EVENTS and record.get("stage") == stage and record.get("step", 0) > step
                )
                dropped += beyond
                if not beyond:
                    kept.append(line)
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
        if tail and _decode(tail) is None:
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


def read(path: Path, start: int = 0) -> Iterator[dict[str, Any]]:
    """The events of a file in order, from byte ``start``; a torn line is passed over."""
    for _, record in _lines(path, start):
        yield record


def read_with_offsets(path: Path, start: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
    """Complete lines from byte ``start``: the offset after each, and its event. Stops before a line that is still being
    written.
    """
    offset = start
    for line, record in _lines(path, start, complete=True):
        offset += len(line)
        if record:
            yield offset, record


def _lines(path: Path, start: int = 0, complete: bool = False) -> Iterator[tuple[bytes, dict[str, Any]]]:
    with open(path, "rb") as file:
        file.seek(start)
        for line in file:
            whole = line.endswith(b"\n")
            if complete and not whole:
                return
            record = _decode(line)
            if record is not None:
                yield line if whole else line + b"\n", record
            elif complete:
                yield line, {}


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _encode(record: dict[str, Any]) -> bytes:
    try:
        return json.dumps(record, allow_nan=False, default=_plain).encode() + b"\n"
    except ValueError:
        return json.dumps(_finite(record), allow_nan=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    """numpy and torch scalars as numbers, paths as text."""
    return _finite(value.item()) if hasattr(value, "item") else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else _plain(value)
