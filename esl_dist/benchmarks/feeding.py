"""How many cores a fast GPU's training steps need for their samples: prepared pairs a second, measured, and what
follows for 1, 4 and 8 GPUs, computed.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

from esl_dist.data.dataset import Dataset
from esl_dist.data.loader import Order, TrainStream, View

STEP_MS = 30.0
"""The step of 1 + 1 images that is fed: two images in it, 67 a second and GPU."""
GPUS = (1, 4, 8)
WARM = 8
"""Pairs that are not counted: streams open, workers start."""


class Side(NamedTuple):
    """One stream of the step."""

    dataset: Dataset
    size: tuple[int, int]
    labels: bool


def measure(sides: tuple[Side, Side], pairs: int, workers: int) -> dict[str, float]:
    """Pairs a second, and milliseconds of CPU a pair in the trainer's process and in its workers.

    Args:
        workers: processes of each stream; 0 reads in a thread of this process.
    """
    with ExitStack() as stack:
        children = _children()
        streams = [
            stack.enter_context(
                closing(TrainStream(s.dataset, View(s.size, labels=s.labels), Order(0, 1), workers=workers))
            )
            for s in sides
        ]
        for _ in range(WARM):
            _pair(streams)
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(pairs):
            _pair(streams)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    # workers are counted from their start on, and have read ahead
    theirs = (_children() - children) / (pairs + WARM + 4 * workers)
    return {"pairs_per_second": pairs / took, "trainer_ms": 1e3 * cpu / pairs, "workers_ms": 1e3 * theirs}


def _pair(streams: list[TrainStream]) -> None:
    for stream in streams:
        next(stream)


def _children() -> float:
    """Seconds of CPU of the processes of this one that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(sides: tuple[Side, Side], pairs: int, rounds: int) -> dict[str, Any]:
    """Read in a thread and by one process a stream, in turns; medians, and what 1, 4 and 8 GPUs would need."""
    ways = {"thread": 0, "workers": 1}
    measured: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, workers in ways.items():
            measured[way].append(measure(sides, pairs, workers))
    found: dict[str, Any] = {"step_ms": STEP_MS, "pairs": pairs}
    for way, figures in measured.items():
        found[way] = {name: statistics.median(f[name] for f in figures) for name in figures[0]}
    pixels = sum(s.size[0] * s.size[1] * (3 + s.labels) for s in sides)
    a_second = 1e3 / STEP_MS
    found["bytes_per_pair"] = pixels
    found["computed"] = [
        {
            "gpus": gpus,
            **{way: gpus * a_second * (found[way]["trainer_ms"] + found[way]["workers_ms"]) / 1e3 for way in ways},
            "gb_per_second": gpus * a_second * pixels / 1e9,
        }
        for gpus in GPUS
    ]
    return found


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The figures of :func:`run` as text."""
    thread, workers = found["thread"], found["workers"]
    yield f"a source sample with label and a target sample, prepared, {found['pairs']} pairs, median of the rounds"
    yield (
        f"in a thread of the trainer: {thread['pairs_per_second']:.0f} pairs/s, {thread['trainer_ms']:.2f} ms of CPU"
        " each; one process a stream: "
        f"{workers['pairs_per_second']:.0f} pairs/s, {workers['trainer_ms']:.2f} ms of the trainer's CPU and "
        f"{workers['workers_ms']:.2f} of the workers'"
    )
    for need in found["computed"]:
        yield (
            f"computed, {need['gpus']} GPU(s) at {found['step_ms']:.0f} ms a step of 1 + 1: {need['thread']:.2f} cores "
            f"read in threads, {need['workers']:.2f} in processes; {need['gb_per_second']:.2f} GB/s of page cache or "
            "disk"
        )
    yield (
        f"the limit of a rank is its reading thread: {thread['pairs_per_second']:.0f} pairs/s are a step of "
        f"{1e3 / thread['pairs_per_second']:.1f} ms (with processes: {1e3 / workers['pairs_per_second']:.1f} ms)"
    )
