"""Batches: the endless training stream and the one pass of inference, in a thread or in workers, with the
same result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esl_dist.data import decode
from esl_dist.data.dataset import DataError, Dataset, EncodingError
from esl_dist.data.prepared import fitted_image, fitted_label
from esl_dist.data.sampler import index_at
from esl_dist.data.transforms import Fit, augment, fit_label, random_crop
from esl_dist.data.workers import Produced

_ATTEMPTS = 16
"""Replacements tried for one position before the last error is raised: a set this broken is not worth training on."""


class Batch(NamedTuple):
    """One micro-batch of training samples."""

    images: Tensor
    """uint8 RGB ``[n, 3, H, W]``."""
    labels: Tensor | None
    """uint8 train ids ``[n, H, W]``, 255 = ignore; None where the stream has none."""
    indices: Tensor
    """int64 ``[n]``: which samples of the data set these are."""
    bad: tuple[str, ...]
    """What was wrong with each sample that had to be replaced."""
    positions: tuple[int, ...] = ()
    """Global position of each sample in its stream: whatever else is drawn about a sample is drawn from it."""
    weights: Tensor | None = None
    """uint8 ``[n, H, W]``: weight of each labelled pixel, in 255ths; None where all weigh alike."""


class InferenceBatch(NamedTuple):
    """One batch of a pass over given samples."""

    images: Tensor
    """uint8 RGB ``[batch, 3, H, W]``; the last batch is filled up with zeros, so that every forward has the
    same shape.
    """
    indices: list[int]
    """The real ones, in order; at most ``batch``."""
    labels: list[NDArray[np.uint8]] | None
    """uint8 train ids at each label's own size, if asked for."""


@contextmanager
def _naming(dataset: Dataset, index: int) -> Iterator[None]:
    """An error that is no ``DataError`` is a fault of the program or the machine: it is not survived, but says at which
    sample it came.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise RuntimeError(f"{dataset.names[index]}: {type(error).__name__}: {error}") from error


@dataclass(frozen=True)
class _TrainBatches:
    """Micro-batch number -> ``Batch``; everything a worker needs."""

    dataset: Dataset
    size: tuple[int, int]
    seed: int
    batch: int
    rank: int
    world: int
    accumulate: int
    mirror: float
    blur: float
    labels: bool
    label_dir: Path | None
    weight_dir: Path | None
    fit: Fit
    crop: int

    def __call__(self, number: int) -> Batch:
        step, micro = divmod(number, self.accumulate)
        first = step * self.world * self.batch * self.accumulate + (micro * self.world + self.rank) * self.batch
        images, labels, indices, bad = [], [], [], []
        for position in range(first, first + self.batch):
            image, label, index, problems = self._sample(position)
            images.append(image)
            indices.append(index)
            bad += problems
            if label is not None:
                labels.append(label)
        stacked, weights = torch.stack(labels) if labels else None, None
        if stacked is not None and self.weight_dir is not None:
            stacked, weights = stacked.unbind(1)
        return Batch(
            torch.stack(images),
            stacked,
            torch.tensor(indices),
            tuple(bad),
            tuple(range(first, first + self.batch)),
            weights,
        )

    def _sample(self, position: int) -> tuple[Tensor, Tensor | None, int, list[str]]:
        """The sample at a position; where it cannot be read, the next of the data set that can, and why."""
        index = index_at(self.seed, position, len(self.dataset))
        problems: list[str] = []
        for candidate in range(index, index + min(_ATTEMPTS, len(self.dataset))):
            candidate %= len(self.dataset)
            try:
                image, label = self._read(candidate)
            except EncodingError:
                raise
            except DataError as error:
                problems.append(str(error))
                continue
            image, label = augment(image, label, seed=self.seed, position=position, mirror=self.mirror, blur=self.blur)
            if self.crop:
                image = random_crop(image, self.crop, seed=self.seed, position=position)
            return image, label, candidate, problems
        raise DataError(f"{problems[-1]} (and {len(problems) - 1} samples before it cannot be read either)")

    def _read(self, index: int) -> tuple[Tensor, Tensor | None]:
        with _naming(self.dataset, index):
            image = fitted_image(self.dataset, index, self.size, self.fit)
            if not self.labels:
                return image, None
            if self.label_dir is None:
                return image, fitted_label(self.dataset, index, self.size, self.fit)
            label = self._png(self.label_dir, index)
            # One tensor [2, H, W] from here on: whatever moves a label moves its weight.
            return image, label if self.weight_dir is None else torch.stack([label, self._png(self.weight_dir, index)])

    def _png(self, folder: Path, index: int) -> Tensor:
        return fit_label(decode.read_ids(folder / f"{self.dataset.names[index]}.png"), self.size, self.fit)


class TrainStream(Iterator[Batch]):
    """Endless micro-batches of one rank.

    Item ``j`` of micro-batch ``a`` of optimiser step ``t`` on rank ``r`` is the sample at global position
    ``t*G + (a*world + r)*batch + j`` with ``G = world*batch*accumulate``: which samples a step sees depends on the
    global batch only.

    Args:
        size: width and height of the crops.
        start_step: optimiser step to begin with; a resumed run passes the step it is at.
        mirror, blur: probabilities (see ``augment``).
        workers: processes that read ahead; 0 reads ahead in a thread.
        labels: read labels.
        label_dir: pseudo-labels ``<label_dir>/<name>.png`` (train ids, 255 = ignore), paired by name, in place of the
        set's own. weight_dir: weights of the pseudo-labels' pixels, ``<weight_dir>/<name>.png``, in 255ths.
        prefetch: micro-batches that each worker (or the thread) keeps ready.
        fit: how images and labels meet ``size``.
        crop: side of a random square of each image; 0 takes the whole. Without labels only.

    Raises:
        ValueError: labels are asked for and withheld, or a pseudo-label is missing. On iteration: too many unreadable
            samples in a row.
    """

    def __init__(
        self,
        dataset: Dataset,
        *,
        size: tuple[int, int],
        seed: int,
        batch: int,
        rank: int,
        world: int,
        accumulate: int = 1,
        start_step: int = 0,
        mirror: float = 0.0,
        blur: float = 0.0,
        workers: int = 0,
        labels: bool = True,
        label_dir: Path | None = None,
        weight_dir: Path | None = None,
        prefetch: int = 2,
        fit: Fit = "stretch",
        crop: int = 0,
    ) -> None:
        assert 0 <= rank < world and batch >= 1 and accumulate >= 1 and start_step >= 0 and not (crop and labels)
        assert weight_dir is None or label_dir is not None
        for folder in filter(None, (label_dir, weight_dir)):
            _require_labels(dataset, folder)
        if labels and label_dir is None and not dataset.labelled:
            raise ValueError(
                "these images have no labels to train on; set labelled=true where they exist, or drop the stage that"
                " learns from them"
            )
        batches = _TrainBatches(
            dataset, size, seed, batch, rank, world, accumulate, mirror, blur, labels, label_dir, weight_dir, fit, crop
        )
        self._batches = Produced(batches, start=start_step * accumulate, stop=None, workers=workers, prefetch=prefetch)

    def __next__(self) -> Batch:
        return next(self._batches)

    def close(self) -> None:
        """End the workers; the stream is finished."""
        self._batches.close()


def _require_labels(dataset: Dataset, label_dir: Path) -> None:
    missing = [name for name in dataset.names if not (label_dir / f"{name}.png").is_file()]
    if missing:
        raise ValueError(
            f"{label_dir}: {len(missing)} of {len(dataset)} pseudo-labels are missing, {missing[0]}.png first; extract"
            " them again"
        )


@dataclass(frozen=True)
class _InferenceBatches:
    dataset: Dataset
    indices: tuple[int, ...]
    size: tuple[int, int]
    batch: int
    with_labels: bool
    fit: Fit

    def __call__(self, number: int) -> InferenceBatch:
        indices = list(self.indices[number * self.batch : (number + 1) * self.batch])
        images = torch.zeros((self.batch, 3, self.size[1], self.size[0]), dtype=torch.uint8)
        labels = []
        for slot, index in enumerate(indices):
            with _naming(self.dataset, index):
                images[slot] = fitted_image(self.dataset, index, self.size, self.fit)
                if self.with_labels:
                    labels.append(self.dataset.label(index))
        return InferenceBatch(images, indices, labels if self.with_labels else None)


def inference_batches(
    dataset: Dataset,
    indices: Sequence[int],
    *,
    size: tuple[int, int],
    batch: int,
    workers: int = 0,
    with_labels: bool = False,
    fit: Fit = "stretch",
) -> Iterator[InferenceBatch]:
    """Every given sample once, in order, in batches of one shape.

    Raises:
        DataError: a sample cannot be read. Nothing is skipped here: an image without a label, or a score over fewer
            images, would go unseen.
    """
    batches = _InferenceBatches(dataset, tuple(indices), size, batch, with_labels, fit)
    produced = Produced(batches, start=0, stop=-(-len(indices) // batch), workers=workers)
    try:
        yield from produced
    finally:
        produced.close()
