"""From thresholds to label sets: the PNGs of every set, what ``thresholds.json`` says, and what earlier runs left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from esl_dist import atomic
from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import Stop, in_step, never
from esl_dist.pseudo_labels.scores.scored import Scored
from esl_dist.pseudo_labels.scores.scorer import relabel
from esl_dist.pseudo_labels.sets import evidence, files, fingerprint, parallel
from esl_dist.pseudo_labels.sets.evidence import Evidence, Truth
from esl_dist.pseudo_labels.sets.label_weights import confidence_weights
from esl_dist.pseudo_labels.thresholds.counting import mask
from esl_dist.pseudo_labels.thresholds.radix import sum_over_ranks
from esl_dist.pseudo_labels.thresholds.rules import Thresholds, bound_of, portion_of, relabels
from esl_dist.pseudo_labels.thresholds.two_passes import Choice
from esl_dist.runs import Damaged, LabelSetFolder


@dataclass(frozen=True)
class LabelSet:
    """A finished set of pseudo-labels: PNGs under ``out/labels`` and the content of ``out/thresholds.json``."""

    rule: str
    out: Path
    thresholds: dict[str, Any]
    made: bool = False
    """Whether this call made it; otherwise it was there."""


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
    """Whether every label PNG gets one of weights beside it (see ``label_weights.py``)."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Images that could not be read, with why; they have no label, and decide nothing."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def images(self) -> int:
        """Images that get a label."""
        return len(self.names) - len(self.left_out)


FIRST_OPTIONS = frozenset(
    {"rule", "nu", "mu", "portion", "portion_growth", "rank", "ties", "temperature", "scores", "window"}
)
"""Options of the first edition: a set made before another option came is the same set while that option has its
default.
"""


def chosen_options(setting: PseudoLabelConfig) -> dict[str, Any]:
    """The options that decide a set, those of the first edition always, others where they are not at their default."""
    defaults = {option.name: option.default for option in fields(setting)}
    return {name: value for name, value in asdict(setting).items() if name in FIRST_OPTIONS or value != defaults[name]}


def identity(setting: PseudoLabelConfig, task: Task) -> str:
    """One hash for everything that decides a label set, the number of ranks not among it."""
    decisive = [chosen_options(setting), list(task.names), list(task.class_names), task.portion_round, task.about]
    return fingerprint.digest([*decisive, "weights"] if task.weights else decisive)


def finished(job: Job, task: Task) -> LabelSet | None:
    """The label set of an earlier run, if it is this very one and every PNG still has its bytes. Collective."""
    folder = LabelSetFolder(job.out)
    content = collectives.broadcast_json(_content(folder) if collectives.is_main() else None)
    if content is None or content.get("identity") != job.identity:
        return None
    total = np.zeros((2, 4), np.int64)
    for name in task.names[collectives.rank() :: collectives.world()]:
        for row, path_of in enumerate((folder.label, folder.weight)[: 1 + task.weights]):
            with contextlib.suppress(OSError):  # a missing file changes the sum
                total[row] += files.digest(name, path_of(name).read_bytes())
    labels, weights = (files.hexadecimal(row) for row in sum_over_ranks(total))
    if labels != content.get("labels") or (task.weights and weights != content.get("weights")):
        return None
    return LabelSet(job.setting.rule, job.out, content)


def _content(folder: LabelSetFolder) -> dict[str, Any] | None:
    """What ``thresholds.json`` says; None where there is none, or one that a foreign hand broke: it is made again."""
    try:
        found = folder.thresholds.find()
    except Damaged:
        return None
    return None if found is None else dict(found)


@dataclass(frozen=True)
class Writing:
    """Label sets on their way to disk: whose, judged by what, and who is told and asked."""

    jobs: Sequence[Job]
    task: Task
    truth: Truth | None = None
    """Ground truth that the sets are judged by, where there is some."""
    report: Callable[[str], None] = lambda line: None
    stop: Stop = never

    def __call__(self, chosen: Choice) -> tuple[list[LabelSet], dict[str, Any]]:
        """The PNGs of this rank's images and one ``thresholds.json`` per job. Collective.

        Also returns what is to be learned from them (see ``evidence``), judged by ``truth`` where it is given.
        """
        jobs, task = self.jobs, self.task
        settings = [job.setting for job in jobs]
        started = time.monotonic()
        collectives.agree(self._prepare)
        judged_kinds = tuple(chosen.high) if self.truth is not None and chosen.judgeable else ()
        found = Evidence(task.num_classes, [setting.rule for setting in settings], judged_kinds)
        seen = np.zeros(2, np.int64)  # images and pixels
        kept, digests = _nothing(jobs, task)

        def write_all() -> Generator[None, None, None]:
            nonlocal kept, digests, seen
            for written in parallel.overlapped(
                lambda image: self._one(image, chosen), chosen.readable, parallel.workers()
            ):
                kept += written.kept
                digests += written.digests
                seen += (1, written.image.label.size)
                found.add(written.image, written.labels, written.truth)
                yield

        in_step(write_all(), self.stop)
        sum_over_ranks(kept)
        sum_over_ranks(digests)
        found.sum_over_ranks()
        self._check_all_seen(chosen, sum_over_ranks(seen).tolist())
        sets = []
        for position, (job, windows) in enumerate(zip(jobs, chosen.windows, strict=True)):
            content = summary(job, windows, kept[position], task, digests[position])
            if collectives.is_main():
                LabelSetFolder(job.out).thresholds.write(cast(Any, content))
            sets.append(LabelSet(job.setting.rule, job.out, content, made=True))
        collectives.barrier()
        self.report(f"label files: {len(jobs) * len(task.names)} in {time.monotonic() - started:.1f} s")
        return sets, evidence.summary(
            [made.thresholds for made in sets], settings, chosen.high, found, self.truth is not None
        )

    def _prepare(self) -> None:
        """No set that is written over looks finished, and none keeps the labels of images that it has not."""
        if not collectives.is_main():
            return
        for job in self.jobs:
            removed = self._clear(LabelSetFolder(job.out))
            if removed:
                self.report(f"{job.out}: {removed} label files of an earlier set of other images removed")
            LabelSetFolder(job.out).thresholds.forget()

    def _clear(self, folder: LabelSetFolder) -> int:
        """Remove what an earlier set of other images left, so that no reader takes it for this one; how many files."""
        names = self.task.names
        left = files.foreign(folder.labels, {folder.label(name) for name in names})
        left += files.foreign(folder.weights, {folder.weight(name) for name in names})
        if left and "identity" not in (_content(folder) or {}):
            raise ValueError(
                f"{left[0].parent} holds {len(left)} PNG file(s) that are no labels of these images (the first: "
                f"{left[0].name}); move them away, or choose another folder"
            )
        for path in left:
            path.unlink()
        return len(left)

    def _one(self, image: Scored, chosen: Choice) -> _Written:
        """The labels of one image in every set, written."""
        jobs, task = self.jobs, self.task
        kept, digests = _nothing(jobs, task)
        labels = []
        for position, (job, windows) in enumerate(zip(jobs, chosen.windows, strict=True)):
            limits = windows[image.id // job.setting.window if job.setting.window else 0]
            label, left = self._label(image, job.setting, limits)
            digests[position, 0] = _png(LabelSetFolder(job.out).label(image.name), image.name, label)
            if task.weights:
                weights = confidence_weights(label, image.score[limits.kind], limits.kind)
                digests[position, 1] = _png(LabelSetFolder(job.out).weight(image.name), image.name, weights)
            kept[position] = left[: task.num_classes]
            labels.append(label)
        height, width = image.label.shape
        return _Written(
            image, labels, None if self.truth is None else self.truth(image.id, (height, width)), kept, digests
        )

    def _label(self, image: Scored, setting: PseudoLabelConfig, limits: Thresholds) -> tuple[np.ndarray, np.ndarray]:
        """The pseudo-label of one image, uint8 ``[H, W]`` with 255 ignored, and the pixels of each value, int64
        ``[256]``.
        """
        if relabels(setting):
            assert image.logits is not None
            label = relabel(
                setting.scores, image.logits, (image.label.shape[0], image.label.shape[1]), limits.threshold
            )
            return label, np.bincount(label.reshape(-1), minlength=256)
        return mask(image.label, image.key(limits.kind), limits.first, limits.last)

    def _check_all_seen(self, chosen: Choice, seen: list[int]) -> None:
        for windows in chosen.windows:
            counted = sum(int(limits.count.sum()) for limits in windows)
            if seen != [self.task.images, counted]:
                raise ValueError(
                    f"thresholds are of {counted} pixels of {self.task.images} images, labels of {seen[1]} "
                    f"of {seen[0]}: "
                    "the spool changed underneath; delete it and run again"
                )


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
    data = files.png(pixels)
    atomic.write_bytes(path, data, durable=False)  # `finished` compares the hashes of all
    return files.digest(name, data)


def class_rows(class_names: Sequence[str], setting: PseudoLabelConfig, limits: Thresholds) -> list[dict[str, Any]]:
    """Name, pixels, median and threshold per class; the median is null for CBST and for an absent class."""
    return [
        {
            "name": name,
            "count": int(limits.count[c]),
            "median": None if relabels(setting) or np.isnan(limits.statistic[c]) else float(limits.statistic[c]),
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
    named = bound_of(setting)
    bound = {} if named is None else dict([named])
    if relabels(setting):
        bound = {"portion": float(portion_of(setting, task.portion_round))}
    classes = class_rows(task.class_names, setting, windows[0])
    for c, row in enumerate(classes):
        if len(windows) > 1:
            row.update(count=int(count[c]), median=None, threshold=None)
        row.update(kept=int(kept[c]), coverage=int(kept[c]) / int(count[c]) if count[c] else 0.0)
    total = {
        "images": task.images,
        "pixels": int(count.sum()),
        "kept": int(kept.sum()),
        "coverage": int(kept.sum()) / max(int(count.sum()), 1),
    }
    content: dict[str, Any] = {"rule": setting.rule, "confidence": windows[0].kind, **bound}
    content.update(rank=setting.rank, ties=setting.ties, scores=setting.scores, window=setting.window)
    content.update(
        {
            name: getattr(setting, name)
            for name in ("scope", "share")
            if getattr(setting, name) != getattr(PseudoLabelConfig, name)
        }
    )
    content.update(**total, classes=classes)
    if len(windows) > 1:
        content["windows"] = [class_rows(task.class_names, setting, limits) for limits in windows]
    hashes = dict(zip(("labels", "weights")[: 1 + task.weights], map(files.hexadecimal, digests), strict=False))
    precision = task.about.get("fingerprint", {}).get("precision")
    if precision:
        content["precision"] = precision
    if task.left_out:
        content["unreadable"] = dict(task.left_out)
    content.update(world_size=collectives.world(), **task.about, **hashes, identity=job.identity)
    return content
