"""From a line of ``metrics.jsonl`` to the points of a tracking server."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# Fields that place a point rather than being one.
_PLACE = ("event", "time", "step", "steps", "stage", "rank", "split", "bn_statistics", "rule")
# What MLflow allows in a metric's name.
_FORBIDDEN = re.compile(r"[^\w\-. :/]", re.ASCII)


class Point(NamedTuple):
    """One value of one metric; ``time_ms`` is Unix time in milliseconds."""

    name: str
    value: float
    step: int
    time_ms: int


class Series(NamedTuple):
    """Where a line belongs: lines of one ``key`` arrive with a growing ``mark``, so a mark says how far a
    key was sent.
    """

    key: str
    mark: float


def series(record: Mapping[str, Any]) -> Series | None:
    """The series of a line; None for lines that hold no metric (stage starts, warnings, unknown events)."""
    event = record.get("event")
    stage = record.get("stage", "")
    try:
        if event == "train":
            return Series(f"train/{stage}", float(record["step"]))
        if event == "eval":
            return Series(
                f"eval/{stage}/{record.get('split', '')}/{record.get('bn_statistics', '')}", float(record["step"])
            )
        if event == "gpu":
            return Series(f"gpu/{stage}/{record.get('rank', 0)}", float(record["step"]))
        if event == "labels":
            return Series(f"labels/{record.get('rule', '')}/{stage}", float(record["time"]))
    except (KeyError, TypeError, ValueError):
        return None
    return None


def points(record: Mapping[str, Any]) -> list[Point]:
    """The numeric fields of a line that has a series, nested ones by path: ``source/loss/seg``,
    ``align/eval/running/iou/road``.
    """
    prefix = {
        "train": f"{record.get('stage')}",
        "eval": f"{record.get('stage')}/eval/{record.get('bn_statistics', 'running')}",
        "gpu": f"{record.get('stage')}/rank{record.get('rank', 0)}",
        "labels": f"labels/{record.get('rule')}",
    }[str(record["event"])]
    step, time_ms = int(record.get("step", 0)), int(float(record.get("time", 0)) * 1000)
    fields = {key: value for key, value in record.items() if key not in _PLACE}
    return [Point(_FORBIDDEN.sub("_", f"{prefix}/{name}"), value, step, time_ms) for name, value in _numbers(fields)]


def _numbers(fields: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, float]]:
    for key, value in fields.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{path}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{path}{key}", float(value)
