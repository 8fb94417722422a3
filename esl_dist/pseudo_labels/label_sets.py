"""From scored images to label sets: the two passes of selection for all settings at once, then the PNGs of
all of them.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from esl_dist import atomic
from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import Stop, in_step, never
from esl_dist.pseudo_labels import counting, fingerprint, insight, overlap, write
from esl_dist.pseudo_labels.images import Scored, ScoredImages
from esl_dist.pseudo_labels.insight import Evidence, Truth
from esl_dist.pseudo_labels.passes import choose
from esl_dist.pseudo_labels.reduced import Reduced
from esl_dist.pseudo_labels.scores import relabel
from esl_dist.pseudo_labels.selection import sum_over_ranks
from esl_dist.pseudo_labels.thresholds import Thresholds, portion_of
from esl_dist.pseudo_labels.weights import confidence_weights


@dataclass(frozen=True)
class LabelSet:
    """A finished set of pseudo-labels: PNGs under ``out/labels`` and the content of ``out/thresholds.json``."""

    rule: str
    out: Path
    thresholds: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One label set to make."""

    name: str
    setting: PseudoLabelConfig
    out: Path
    identity: str


@dataclass(frozen=True)
class Task:
    """What the label sets of one extraction have in common."""

    names: Sequence[str]
    class_names: Sequence[str]
    portion_round: int
    about: dict[str, Any]
    """Recorded in ``thresholds.json``: checkpoint, fingerprint, output size."""
    weights: bool = False
    """Whether every label PNG gets one of weights beside it (see ``weights.py``)."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def identity(setting: PseudoLabelConfig, task: Task) -> str:
    """One hash for everything that decides a label set, the number of ranks not among it."""
    decisive = [asdict(setting), list(task.names), list(task.class_names), task.portion_round, task.about]
    return fingerprint.digest([*decisive, "weights"] if task.weights else decisive)


def finished(job: Job, task: Task) -> LabelSet | None:
    """The label set of an earlier run, if it is this very one and every PNG still has its bytes. Collective."""
    content = collectives.broadcast_json(write.read_json(job.out / "thresholds.json"))
    if content is None or content.get("identity") != job.identity:
        return None
    total = np.zeros((2, 4), np.int64)
    for name in task.names[collectives.rank() :: collectives.world()]:
        for row, path_of in enumerate((write.label_path, write.weight_path)[: 1 + task.weights]):
            with contextlib.suppress(OSError):  # a missing file changes the sum
                total[row] += write.digest(name, path_of(job.out, name).read_bytes())
    labels, weights = (write.hexadecimal(row) for row in sum_over_ranks(total))
    if labels != content.get("labels") or (task.weights and weights != content.get("weights")):
        return None
    return LabelSet(job.setting.rule, job.out, content)


def make(
    images: ScoredImages,
    jobs: Sequence[Job],
    task: Task,
    report: Callable[[str], None] = lambda line: None,
    truth: Truth | None = None,
    stop: Stop = never,
) -> tuple[list[LabelSet], dict[str, Any]]:
    """Thresholds, then the PNGs of this rank's images and one ``thresholds.json`` per job. Collective.

    Also returns what is to be learned from them (see ``insight``), judged by ``truth`` where it is given.
    """
    settings = [job.setting for job in jobs]
    started = time.monotonic()
    chosen = choose(images, settings, len(task.names), task.num_classes, task.portion_round, stop, task.weights)
    if collectives.is_main():
        for job in jobs:
            (job.out / "thresholds.json").unlink(missing_ok=True)  # a set half overwritten must not look finished
    collectives.barrier()
    selected = time.monotonic()
    report(f"thresholds: {selected - started:.1f} s")
    # keys that were reduced between two forwards compare with thresholds, but are no scores any more
    judged_kinds = tuple(chosen.high) if truth is not None and not isinstance(chosen.readable, Reduced) else ()
    evidence = Evidence(task.num_classes, [setting.rule for setting in settings], judged_kinds)

    def write_one(image: Scored) -> _Written:
        kept, digests = _nothing(jobs, task)
        labels = []
        for position, (job, windows) in enumerate(zip(jobs, chosen.windows, strict=True)):
            limits = windows[image.id // job.setting.window if job.setting.window else 0]
            label, left = label_of(image, job.setting, limits)
            digests[position, 0] = _png(write.label_path(job.out, image.name), image.name, label)
            if task.weights:
                weights = confidence_weights(label, image.score[limits.kind], limits.kind)
                digests[position, 1] = _png(write.weight_path(job.out, image.name), image.name, weights)
            kept[position] = left[: task.num_classes]
            labels.append(label)
        height, width = image.label.shape
        return _Written(image, labels, None if truth is None else truth(image.id, (height, width)), kept, digests)

    seen = np.zeros(2, np.int64)  # images and pixels

    kept, digests = _nothing(jobs, task)

    def write_all() -> Generator[None, None, None]:
        nonlocal kept, digests, seen
        for written in overlap.overlapped(write_one, chosen.readable, overlap.workers()):
            kept += written.kept
            digests += written.digests
            seen += (1, written.image.label.size)
            evidence.add(written.image, written.labels, written.truth)
            yield

    in_step(write_all(), stop)
    sum_over_ranks(kept)
    sum_over_ranks(digests)
    evidence.sum_over_ranks()
    images_seen, pixels_seen = sum_over_ranks(seen).tolist()
    for windows in chosen.windows:
        counted = sum(int(limits.count.sum()) for limits in windows)
        if (images_seen, pixels_seen) != (len(task.names), counted):
            raise ValueError(
                f"thresholds are of {counted} pixels of {len(task.names)} images, labels of {pixels_seen} of"
                f" {images_seen}: the spool changed underneath; delete it and run again"
            )
    sets = []
    for position, (job, windows) in enumerate(zip(jobs, chosen.windows, strict=True)):
        content = summary(job, windows, kept[position], task, digests[position])
        if collectives.is_main():
            atomic.write_json(job.out / "thresholds.json", content)
        sets.append(LabelSet(job.setting.rule, job.out, content))
    collectives.barrier()
    report(f"label files: {len(jobs) * len(task.names)} in {time.monotonic() - selected:.1f} s")
    return sets, insight.summary([made.thresholds for made in sets], settings, chosen.high, evidence, truth is not None)


class _Written(NamedTuple):
    """One image whose labels are on disk, with what is still to be counted."""

    image: Scored
    labels: list[np.ndarray]
    truth: np.ndarray | None
    kept: np.ndarray
    digests: np.ndarray


def _nothing(jobs: Sequence[Job], task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Kept pixels per job and class, and digests of labels and weights per job, to add to."""
    return np.zeros((len(jobs), task.num_classes), np.int64), np.zeros((len(jobs), 2, 4), np.int64)


def _png(path: Path, name: str, pixels: np.ndarray) -> np.ndarray:
    """Write uint8 ``[H, W]``; the file's digest."""
    data = write.png(pixels)
    atomic.write_bytes(path, data, durable=False)  # `finished` compares the hashes of all
    return write.digest(name, data)


def label_of(image: Scored, setting: PseudoLabelConfig, limits: Thresholds) -> tuple[np.ndarray, np.ndarray]:
    """The pseudo-label of one image, uint8 ``[H, W]`` with 255 ignored, and the pixels of each value, int64
    ``[256]``.
    """
    if setting.rule == "cbst":
        assert image.logits is not None
        label = relabel(setting.scores, image.logits, (image.label.shape[0], image.label.shape[1]), limits.threshold)
        return label, np.bincount(label.reshape(-1), minlength=256)
    return counting.mask(image.label, image.key(limits.kind), limits.first, limits.last)


def class_rows(class_names: Sequence[str], setting: PseudoLabelConfig, limits: Thresholds) -> list[dict[str, Any]]:
    """Name, pixels, median and threshold per class; the median is null for CBST and for an absent class."""
    return [
        {
            "name": name,
            "count": int(limits.count[c]),
            "median": None if setting.rule == "cbst" or np.isnan(limits.statistic[c]) else float(limits.statistic[c]),
            "threshold": float(limits.threshold[c]),
        }
        for c, name in enumerate(class_names)
    ]


def summary(
    job: Job, windows: Sequence[Thresholds], kept: np.ndarray, task: Task, digests: np.ndarray
) -> dict[str, Any]:
    """The content of ``thresholds.json``. With several windows a class has no one median: each window's are listed."""
    setting = job.setting
    count = np.sum([limits.count for limits in windows], axis=0)
    bound: dict[str, dict[str, float]] = {
        "esl": {"nu": setting.nu},
        "ssl": {"mu": setting.mu},
        "median": {},
        "cbst": {"portion": float(portion_of(setting, task.portion_round))},
    }
    classes = class_rows(task.class_names, setting, windows[0])
    for c, row in enumerate(classes):
        if len(windows) > 1:
            row.update(count=int(count[c]), median=None, threshold=None)
        row.update(kept=int(kept[c]), coverage=int(kept[c]) / int(count[c]) if count[c] else 0.0)
    total = {
        "images": len(task.names),
        "pixels": int(count.sum()),
        "kept": int(kept.sum()),
        "coverage": int(kept.sum()) / max(int(count.sum()), 1),
    }
    content: dict[str, Any] = {"rule": setting.rule, "confidence": windows[0].kind, **bound[setting.rule]}
    content.update(
        rank=setting.rank, ties=setting.ties, scores=setting.scores, window=setting.window, **total, classes=classes
    )
    if len(windows) > 1:
        content["windows"] = [class_rows(task.class_names, setting, limits) for limits in windows]
    hashes = dict(zip(("labels", "weights")[: 1 + task.weights], map(write.hexadecimal, digests), strict=False))
    content.update(world_size=collectives.world(), **task.about, **hashes, identity=job.identity)
    return content
