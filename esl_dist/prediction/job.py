"""Frames to files on all ranks: who makes what, what is there already, what could not be read, and one hash of it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from esl_dist.atomic import write_bytes
from esl_dist.distributed import collectives
from esl_dist.distributed.collectives import agree
from esl_dist.distributed.in_step import Stop, in_step, never
from esl_dist.prediction.forward import Image, Predicted
from esl_dist.prediction.frames import Frames
from esl_dist.prediction.products import SUFFIXES, Products
from esl_dist.runs import Record
from esl_dist.tracking.console import duration

log = logging.getLogger(__name__)

EVERY_S = 10.0
"""Between two lines on how far it is."""


@dataclass(frozen=True)
class Made:
    """``predictions.json``: what a folder of predictions holds."""

    settings: dict[str, Any]
    """What every file is a function of, beside its frame."""
    frames: int
    unreadable: dict[str, str] = field(default_factory=dict)
    """Name of a frame -> why it could not be read."""
    files: dict[str, str] = field(default_factory=dict)
    """Kind of files -> hash over names and bytes of all of them, in no order; empty while they are being made."""
    sources: dict[str, str] = field(default_factory=dict)
    """Name of a frame -> size and time of the picture that its files were made of."""


@dataclass(frozen=True)
class Task:
    """Frames, what looks at them, and what is made of each."""

    frames: Frames
    infer: Callable[[Sequence[Image]], list[Predicted]]
    """At most ``batch`` images, their bits whatever else is in the batch."""
    products: Products
    out: Path
    settings: dict[str, Any]
    batch: int
    workers: int = 0

    @property
    def record(self) -> Record[Made]:
        return Record(self.out / "predictions.json", Made, "delete it, and what is missing is made again")

    def is_whole(self, name: str) -> bool:
        """Whether every file of a frame is there; files are renamed into place, so one that is there is whole."""
        return all(self.products.path(self.out, kind, name).is_file() for kind in self.products.kinds)

    def forget(self, name: str) -> bool:
        """Remove every file of a frame, of kinds that were made before too; whether it had a label map."""
        there = self.products.path(self.out, "labels", name).is_file()
        for kind in SUFFIXES:
            self.products.path(self.out, kind, name).unlink(missing_ok=True)
        return there


def run(task: Task, stop: Stop = never) -> Made:
    """Make what is missing of every frame's files. Collective; a call that was cut off is gone on with by the same one.

    Raises:
        ValueError: the folder holds predictions of other settings, or a file cannot be written; on all ranks.
        StoppedBySignal: ``stop`` said so on some rank.
    """
    names = task.frames.names
    left: list[int] = collectives.broadcast_json(agree(lambda: _left(task, names) if collectives.is_main() else []))
    mine = left[collectives.rank() :: collectives.world()]
    if len(left) < len(names):
        log.info("%d of %d frames are there already", len(names) - len(left), len(names))
    problems: dict[str, str] = {}
    in_step(_work(task, mine, problems), stop, every=1)
    unreadable = {name: text for share in collectives.gather_json(problems) for name, text in share.items()}
    made = Made(task.settings, len(names), dict(sorted(unreadable.items())), _hashes(task, names))

    def write() -> None:
        task.record.write(replace(made, sources=task.record.read().sources))

    agree(lambda: write() if collectives.is_main() else None)
    return made


def _left(task: Task, names: Sequence[str]) -> list[int]:
    """Numbers of the frames that are to be made. Rank 0; begins the folder's record."""
    before = task.record.find()
    if before is not None and before.settings != task.settings:
        keys = sorted(before.settings.keys() | task.settings.keys())
        key = next(key for key in keys if before.settings.get(key) != task.settings.get(key))
        raise ValueError(
            f"{task.out}: was made with {key}={before.settings.get(key)}, now it is {task.settings.get(key)}; choose"
            " another --out, or delete that folder"
        )
    known, now = before.sources if before is not None else {}, task.frames.stamps()
    try:
        # Before the record says that they are of these pictures.
        again = [name for name in names if known.get(name, now[name]) != now[name] and task.forget(name)]
        task.record.write(Made(task.settings, len(names), sources={**known, **now}))
    except OSError as error:
        raise ValueError(f"{task.out}: cannot be written ({error.strerror or error})") from None
    if again:
        log.warning("%d frames are other pictures than before (the first: %s): made again", len(again), again[0])
    if others := known.keys() - now.keys():
        log.warning("%s also holds files of %d frames that are not among these", task.out, len(others))
    return [number for number, name in enumerate(names) if not task.is_whole(name)]


def _work(task: Task, mine: Sequence[int], problems: dict[str, str]) -> Generator[None, None, None]:
    """This rank's frames, a batch a piece."""
    names, began, said, done = task.frames.names, time.monotonic(), time.monotonic(), 0
    waiting: list[tuple[int, Image]] = []

    def flush() -> None:
        made = task.infer([image for _, image in waiting]) if waiting else []
        for (number, image), predicted in zip(waiting, made, strict=True):
            _write(task, names[number], image, predicted)
        waiting.clear()

    for frame in task.frames.read(mine, task.workers):
        done += 1
        if frame.image is None:
            problems[names[frame.number]] = frame.problem
            log.warning("left out: %s", frame.problem)
            continue
        waiting.append((frame.number, frame.image))
        if len(waiting) == task.batch:
            flush()
            if collectives.is_main() and time.monotonic() - said >= EVERY_S:
                said = time.monotonic()
                left = (said - began) / done * (len(mine) - done)
                log.info("%d of %d frames here, %s left", done, len(mine), duration(left))
            yield
    flush()
    yield


def _write(task: Task, name: str, image: Image, predicted: Predicted) -> None:
    """The files of a frame, the label map last."""
    for kind in sorted(task.products.kinds, key=lambda kind: kind == "labels"):
        path = task.products.path(task.out, kind, name)
        try:
            write_bytes(path, task.products.encode(kind, image, predicted), durable=False)
        except OSError as error:
            raise ValueError(
                f"{path}: cannot be written ({error.strerror or error}); make room and start again"
            ) from None


def _hashes(task: Task, names: Sequence[str]) -> dict[str, str]:
    """One hash per kind of files: the sum of every file's, which no order and no number of ranks changes."""
    kinds = task.products.kinds
    total = np.zeros((len(kinds), 4), np.int64)
    for name in names[collectives.rank() :: collectives.world()]:
        for row, kind in enumerate(kinds):
            path = task.products.path(task.out, kind, name)
            if path.is_file():
                digest = hashlib.sha256(name.encode() + b"\0" + path.read_bytes()).digest()
                total[row] += np.frombuffer(digest, np.int64)
    summed = collectives.all_reduce_(torch.from_numpy(total)).numpy()
    return {kind: summed[row].tobytes().hex() for row, kind in enumerate(kinds)}
