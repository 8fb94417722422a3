"""From scored images to label sets: the two passes of selection for all settings at once, then the PNGs of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.distributed import collectives
from esl_dist.pseudo_labels import counting, fingerprint, overlap, write
from esl_dist.pseudo_labels.counting import Cells, ScoreError
from esl_dist.pseudo_labels.images import Scored, ScoredImages
from esl_dist.pseudo_labels.keys import HIGH_BINS, Kind, keys
from esl_dist.pseudo_labels.selection import locate, order_statistics, raise_together, sum_over_ranks
from esl_dist.pseudo_labels.thresholds import Thresholds, kind_of, plain, portion_of, thresholds, wanted_ranks


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

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


def identity(setting: PseudoLabelConfig, task: Task) -> str:
    """One hash for everything that decides a label set, the number of ranks not among it."""
    return fingerprint.digest([asdict(setting), list(task.names), list(task.class_names), task.portion_round, task.about])


def finished(job: Job, task: Task) -> LabelSet | None:
    """The label set of an earlier run, if it is this very one and every PNG still has its bytes. Collective."""
    content = collectives.broadcast_json(write.read_json(job.out / "thresholds.json"))
    if content is None or content.get("identity") != job.identity:
        return None
    total = np.zeros(4, np.int64)
    for name in task.names[collectives.rank() :: collectives.world()]:
        try:
            total += write.digest(name, write.label_path(job.out, name).read_bytes())
        except OSError:
            continue  # a missing file changes the sum
    if write.hexadecimal(sum_over_ranks(total)) != content.get("labels"):
        return None
    return LabelSet(job.setting.rule, job.out, content)


def _first_pass(images: ScoredImages, kinds: Sequence[Kind], num_classes: int) -> dict[Kind, np.ndarray]:
    known = {kind: images.high(kind) for kind in kinds}
    high = {kind: known[kind] if known[kind] is not None else np.zeros((num_classes, HIGH_BINS), np.int64) for kind in kinds}
    missing = [kind for kind in kinds if known[kind] is None]
    if missing:
        for image in images:
            for kind in missing:
                counting.count_high(high[kind], *_valid(image, kind, num_classes))
    return high  # type: ignore[return-value]


def _valid(image: Scored, kind: Kind, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        return counting.valid(image.label, keys(image.score[kind]), num_classes)
    except ScoreError as error:
        raise ScoreError(f"{image.name}: {error}") from error


def _guarded(work: Callable[[], Any]) -> Any:
    """Run one rank's share of a pass; a user's error on any rank stops all of them with the same line."""
    error, result = None, None
    try:
        result = work()
    except ValueError as reason:
        error = str(reason)
    raise_together(error)
    return result


def select(images: ScoredImages, settings: Sequence[PseudoLabelConfig], num_classes: int, portion_round: int = 0) -> list[Thresholds]:
    """Exact thresholds of every setting over the images of all ranks, in two passes for all of them together. Collective."""
    kinds: list[Kind] = sorted({kind_of(setting) for setting in settings})
    high = _guarded(lambda: _first_pass(images, kinds, num_classes))
    for kind in kinds:
        sum_over_ranks(high[kind])
    counts = high[kinds[0]].sum(1)
    located = [locate(high[kind_of(s)], wanted_ranks(s, counts, portion_round)) for s in settings]
    cells: dict[Kind, Cells] = {}
    for kind in kinds:
        cells[kind] = Cells.of(np.stack([bins for (bins, _), s in zip(located, settings, strict=True) if kind_of(s) == kind]))
    low = {kind: cells[kind].empty() for kind in kinds}

    def second_pass() -> None:
        for image in images:
            for kind in kinds:
                counting.count_low(low[kind], cells[kind], *_valid(image, kind, num_classes))

    _guarded(second_pass)
    for kind in kinds:
        sum_over_ranks(low[kind])
    found = [order_statistics(low[kind_of(s)], cells[kind_of(s)], bins, rest) for (bins, rest), s in zip(located, settings, strict=True)]
    return [thresholds(s, counts, f) for s, f in zip(settings, found, strict=True)]


def make(images: ScoredImages, jobs: Sequence[Job], task: Task) -> list[LabelSet]:
    """Thresholds, then the PNGs of this rank's images and one ``thresholds.json`` per job. Collective."""
    chosen = select(images, [job.setting for job in jobs], task.num_classes, task.portion_round)
    for job in jobs:
        if collectives.is_main():
            (job.out / "thresholds.json").unlink(missing_ok=True)  # a set half overwritten must not look finished
    collectives.barrier()

    def write_one(image: Scored) -> tuple[np.ndarray, np.ndarray]:
        kept = np.zeros((len(jobs), task.num_classes), np.int64)
        digests = np.zeros((len(jobs), 4), np.int64)
        for position, (job, limits) in enumerate(zip(jobs, chosen, strict=True)):
            label = counting.mask(image.label, keys(image.score[limits.kind]), limits.first, limits.last)
            data = write.png(label)
            write.replace(write.label_path(job.out, image.name), data)
            kept[position] = np.bincount(label.reshape(-1), minlength=256)[: task.num_classes]
            digests[position] = write.digest(image.name, data)
        return kept, digests

    def write_all() -> tuple[np.ndarray, np.ndarray]:
        kept = np.zeros((len(jobs), task.num_classes), np.int64)
        digests = np.zeros((len(jobs), 4), np.int64)
        for image_kept, image_digests in overlap.overlapped(write_one, images, overlap.workers()):
            kept += image_kept
            digests += image_digests
        return kept, digests

    kept, digests = _guarded(write_all)
    sum_over_ranks(kept)
    sum_over_ranks(digests)
    sets = []
    for position, (job, limits) in enumerate(zip(jobs, chosen, strict=True)):
        content = summary(job, limits, kept[position], task, write.hexadecimal(digests[position]))
        if collectives.is_main():
            write.write_json(job.out / "thresholds.json", content)
        sets.append(LabelSet(job.setting.rule, job.out, content))
    collectives.barrier()
    return sets


def summary(job: Job, limits: Thresholds, kept: np.ndarray, task: Task, labels: str) -> dict[str, Any]:
    """The content of ``thresholds.json``."""
    setting = job.setting
    pixels = int(limits.count.sum())
    bound = {"esl": {"nu": setting.nu}, "ssl": {"mu": setting.mu}, "median": {}, "cbst": {"portion": float(portion_of(setting, task.portion_round))}}
    classes = []
    for c, name in enumerate(task.class_names):
        count = int(limits.count[c])
        classes.append(
            {
                "name": name,
                "count": count,
                "median": None if setting.rule == "cbst" else plain(float(limits.statistic[c])),
                "threshold": float(limits.threshold[c]),
                "kept": int(kept[c]),
                "coverage": int(kept[c]) / count if count else 0.0,
            }
        )
    return {
        "rule": setting.rule,
        "confidence": limits.kind,
        **bound[setting.rule],
        "rank": setting.rank,
        "ties": setting.ties,
        "scores": setting.scores,
        "window": setting.window,
        "images": len(task.names),
        "pixels": pixels,
        "kept": int(kept.sum()),
        "coverage": int(kept.sum()) / pixels if pixels else 0.0,
        "classes": classes,
        "world_size": collectives.world(),
        **task.about,
        "labels": labels,
        "identity": job.identity,
    }
