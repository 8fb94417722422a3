"""Evaluation: every rank scores its share of the images, one integer confusion matrix is summed over the ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from esl_dist.atomic import write_text
from esl_dist.config.schema import Config
from esl_dist.data.bad_samples import Bad, BadSamples
from esl_dist.data.dataset import Dataset
from esl_dist.data.loader import inference_batches
from esl_dist.data.transforms import Fit, content_size, cut_padding, resize_label
from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import Stop, in_step, never
from esl_dist.labels import protocol
from esl_dist.metrics.counting import Counter
from esl_dist.metrics.iou import Confusion, group_scores, iou, mean_iou, merged_scores, subset_scores
from esl_dist.runs import records

Predict = Callable[[torch.Tensor], torch.Tensor]
"""uint8 ``[B, 3, h, w]`` RGB -> float32 logits ``[B, C, h', w']``."""


Groups = Sequence[tuple[str, Sequence[int]]]
"""Merged classes that are scored beside the classes: name and the classes' positions (see class files)."""


EXTREMES = 3
"""Worst and best images that a result names, of each as many."""


class ImageScore(NamedTuple):
    """One image: its pixels that have a label, and how many of them are predicted right."""

    name: str
    right: int
    judged: int

    @property
    def wrong(self) -> float:
        """Share of wrong pixels, 0-1."""
        return 1 - self.right / self.judged


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of one network on one set of labelled images; the same on every rank."""

    confusion: Confusion
    """int64 ``[C, C]``, rows = label."""
    class_names: tuple[str, ...]
    images: int
    """Images scored, over all ranks."""
    at: str
    """``native``: at each label's own size; ``crop``: at the network's input size."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """Images left out because they or their labels cannot be read: name to reason."""
    groups: Groups = ()
    by_image: Sequence[ImageScore] = ()
    """Every image with a labelled pixel, the one with the largest share of wrong pixels first."""

    @property
    def worst(self) -> Sequence[ImageScore]:
        """Images with the largest share of wrong pixels, at most ``EXTREMES`` and never one of the ``best``."""
        return self.by_image[: min(EXTREMES, len(self.by_image) // 2)]

    @property
    def best(self) -> Sequence[ImageScore]:
        """Those with the smallest, the smallest first."""
        return self.by_image[::-1][: len(self.worst)]

    @property
    def iou(self) -> np.ndarray:
        """float64 ``[C]``, 0-1, NaN where a class is neither labelled nor predicted."""
        return iou(self.confusion)

    @property
    def miou(self) -> float:
        """Mean IoU over the classes that occur, 0-1; NaN without any labelled pixel."""
        return mean_iou(self.iou)

    def to_json(self, class_names: Sequence[str] | None = None) -> dict[str, Any]:
        """What ``metrics.json`` holds, under other class names if given; an absent number is null."""
        values, names = self.iou, class_names or self.class_names
        found: dict[str, Any] = {
            "miou": _number(self.miou),
            "iou": {name: _number(value) for name, value in zip(names, values, strict=True)},
            "classes": f"{len(names)}-class network",
            "images": self.images,
            "at": self.at,
            "pixel_accuracy": (
                _number(float(np.trace(self.confusion)) / total) if (total := int(self.confusion.sum())) else None
            ),
        }
        subsets = subset_scores(values, names)
        if subsets:
            found["subsets"] = {
                name: {"miou": _number(mean), "classes": list(classes)} for name, (mean, classes) in subsets.items()
            }
        merged = merged_scores(self.confusion, names)
        if self.groups:
            merged["groups"] = group_scores(self.confusion, self.groups)
        if merged:
            found["merged"] = {
                title: {
                    "miou": _number(mean_iou(np.array([*ious.values()]))),
                    "iou": {name: _number(v) for name, v in ious.items()},
                }
                for title, ious in merged.items()
            }
        if "13-of-16" in subsets:
            found["miou_star"] = _number(subsets["13-of-16"][0])
        if self.unreadable:
            found["unreadable"] = dict(self.unreadable)
        if self.by_image:
            found["worst"] = [[image.name, image.wrong] for image in self.worst]
            found["best"] = [[image.name, image.wrong] for image in self.best]
        return {**found, "confusion": self.confusion.tolist()}


@dataclass(frozen=True)
class Conditions:
    """Under which conditions images are conditions."""

    class_names: Sequence[str]
    input_size: tuple[int, int]
    """Width and height that the network sees."""
    batch: int = 1
    """Images per forward; the last batch is padded to it and the padding is not conditions."""
    at: Literal["native", "crop"] = "native"
    """``native``: at each label's own size; ``crop``: at ``input_size`` with nearest-neighbour labels."""
    images: int = 0
    """The first so many only; 0 scores all."""
    fit: Fit = "stretch"
    """How an image meets ``input_size``; padding is neither scored nor does it reach the logits that are."""
    workers: int = 0
    bad_samples: int = 0
    """Images that may be left out because they or their labels cannot be read; the result names them."""
    groups: Groups = ()

    @staticmethod
    def of(config: Config) -> Conditions:
        """By the options of a run."""
        options, data = config.eval, config.data
        classes = protocol(data.classes)
        return Conditions(
            classes.classes,
            options.input_size,
            options.batch,
            options.at,
            options.images,
            data.target.fit,
            data.workers,
            data.bad_samples,
            classes.groups,
        )


def evaluate(predict: Predict, dataset: Dataset, conditions: Conditions, stop: Stop = never) -> EvaluationResult:
    """Score ``predict`` on a labelled dataset, sharded over the ranks; all ranks call it and get the same result.

    Args:
        predict: uint8 images ``[batch, 3, h, w]`` RGB at ``input_size`` to logits ``[batch, C, h', w']`` at any stride.
            Logits are upsampled (bilinear, ``align_corners=True``, float32) to the size that is scored, then the argmax
            is taken.
        stop: asked after every batch; see ``in_step``.

    Raises:
        ValueError: the set has no labels or no labelled pixel, more images or labels cannot be read than may (on every
            rank, with a file's name), or one is of another encoding.
        StoppedBySignal: ``stop`` said so on some rank.
    """
    if not dataset.labelled:
        raise ValueError(
            "eval.split: these images have no labels to score against; set eval.split= (empty) to skip evaluation"
        )
    total = min(conditions.images, len(dataset)) if conditions.images else len(dataset)
    mine = range(total)[collectives.rank() :: collectives.world()]
    counts = torch.zeros((len(conditions.class_names), len(conditions.class_names)), dtype=torch.int64)
    bad: list[Bad] = []
    seen: list[ImageScore] = []
    in_step(_score(counts, bad, seen, predict, dataset, list(mine), conditions), stop, every=1)
    collectives.all_reduce_(counts)
    shares = collectives.gather_json([bad, seen])
    unreadable = BadSamples("scored images", conditions.bad_samples)
    unreadable.add(sorted(Bad(*found) for share, _ in shares for found in share))
    unreadable.check()
    if not counts.any():
        raise ValueError(
            f"eval.split: not one labelled pixel in {total} images: every pixel is ignored under these classes; choose "
            "another label folder, data.target.encoding or data.classes, or set eval.split= (empty) to skip evaluation"
        )
    by_image = sorted((ImageScore(*image) for _, share in shares for image in share), key=_worst_first)
    return EvaluationResult(
        counts.numpy(),
        tuple(conditions.class_names),
        total - len(unreadable.found),
        conditions.at,
        dict(unreadable.found),
        conditions.groups,
        by_image,
    )


def _worst_first(image: ImageScore) -> tuple[float, str]:
    return -image.wrong, image.name


def _score(
    counts: torch.Tensor,
    bad: list[Bad],
    seen: list[ImageScore],
    predict: Predict,
    dataset: Dataset,
    indices: list[int],
    conditions: Conditions,
) -> Generator[None, None, None]:
    """Add this rank's images to ``counts`` and ``seen``, and those that cannot be read to ``bad``, a batch a piece."""
    num_classes, input_size, fit = len(counts), conditions.input_size, conditions.fit
    counter = Counter(num_classes)
    for loaded in inference_batches(
        dataset,
        indices,
        size=input_size,
        batch=conditions.batch,
        workers=conditions.workers,
        with_labels=True,
        fit=fit,
        leave_out=True,
    ):
        bad += loaded.bad
        if not loaded.indices:
            yield
            continue
        logits = predict(loaded.images)
        assert loaded.labels is not None and logits.shape[1] == num_classes
        for slot, index in enumerate(loaded.indices):
            native = loaded.labels[slot]
            size = (native.shape[1], native.shape[0])
            label = (
                torch.from_numpy(native)
                if conditions.at == "native"
                else resize_label(native, content_size(size, input_size, fit))
            )
            counter.add(dataset.names[index], cut_padding(logits[slot], size, input_size, fit), label)
        yield
    for name, found in counter.found():
        counts += torch.from_numpy(found)
        if judged := int(found.sum()):
            seen.append(ImageScore(name, int(found.trace()), judged))


def write_metrics(result: EvaluationResult, path: Path, extra: Mapping[str, Any] | None = None) -> None:
    """Write ``metrics.json`` whole or not at all: scores, ``extra`` (statistics, split, checkpoint), and the confusion
    matrix last.
    """
    content = result.to_json()
    confusion = content.pop("confusion")
    write_text(path, records.encode({**content, **(extra or {}), "confusion": confusion}))


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
