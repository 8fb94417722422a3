"""Lines of ``metrics.jsonl``: one JSON object each, with the CRC-32 of its own bytes at the end, so that a damaged line
is told from a good one.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esl_dist.runs.events import Event, from_line

_CRC = re.compile(rb', "crc": "([0-9a-f]{8})"\}$')
_LIKE_CRC = re.compile(rb'"(?:.rc|c.c|cr.)": "[^"]{8}"\}$|"crc"', re.DOTALL)


class DamagedLine(ValueError):
    """A line that is not what was written."""


@dataclass(frozen=True)
class Line:
    """One line of the file. Either ``event`` is what it records, or it records nothing that this release knows, or
    ``damage`` says what is wrong.
    """

    number: int
    """From 1, counted from where reading began."""
    raw: bytes
    """With its end, where it has one."""
    time: float = 0.0
    """Unix seconds."""
    event: Event | None = None
    damage: str = ""


def encode(fields: Mapping[str, Any]) -> bytes:
    """A line with its end. Numbers that are not finite become null, numpy's and torch's scalars plain, paths text."""
    try:
        text = json.dumps(fields, allow_nan=False, default=_plain).encode()
    except ValueError:
        text = json.dumps(_finite(fields), allow_nan=False).encode()
    return text[:-1] + b', "crc": "%08x"}\n' % zlib.crc32(text)


def decode(raw: bytes) -> dict[str, Any]:
    """The fields of a line, its ``crc`` taken off. Lines of releases before 0.2 have none and are read as they are.

    Raises:
        DamagedLine: it is torn or was changed.
    """
    text = raw.rstrip(b"\r\n")
    found = _CRC.search(text)
    if found:
        text = text[: found.start()] + b"}"
        if zlib.crc32(text) != int(found[1], 16):
            raise DamagedLine("is not as it was written (its checksum does not match)")
    elif _LIKE_CRC.search(text):
        raise DamagedLine("is not as it was written (its checksum cannot be read)")
    try:
        fields = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise DamagedLine("is cut short or damaged") from None
    if not isinstance(fields, dict):
        raise DamagedLine("is no JSON object")
    return fields


def read(path: Path, start: int = 0, complete: bool = False) -> Iterator[Line]:
    """The lines of a file from byte ``start``, damaged ones among them.

    Args:
        complete: stop before a last line that is still being written.

    Raises:
        OSError: there is no such file, or it cannot be read.
    """
    with open(path, "rb") as file:
        file.seek(start)
        for number, raw in enumerate(file, 1):
            if complete and not raw.endswith(b"\n"):
                return
            yield parse(raw, number)


def parse(raw: bytes, number: int = 1) -> Line:
    """One line, understood or damaged."""
    try:
        fields = decode(raw)
        time = fields.get("time", 0.0)
        if isinstance(time, bool) or not isinstance(time, int | float) or not math.isfinite(time):
            raise DamagedLine("time: must be a number")
        return Line(number, raw, float(time), from_line(fields))
    except ValueError as error:
        return Line(number, raw, damage=str(error))


def _plain(value: Any) -> Any:
    return _finite(value.item()) if hasattr(value, "item") else str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else _plain(value)
