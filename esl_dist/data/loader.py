"""Batches: the endless training stream and the one pass of inference, in a thread or in workers, with the
same result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from esl_dist.data import decode
from esl_dist.data.bad_samples import Bad
from esl_dist.data.crops import CropRule, choose_crop, crop_window
from esl_dist.data.dataset import DataError, Dataset, EncodingError
from esl_dist.data.margins import NONE, Margins, trusted
from esl_dist.data.prepared import fitted_image, fitted_label
from esl_dist.data.rare_classes import RareClasses
from esl_dist.data.sampler import index_at
from esl_dist.data.transforms import Fit, augment, content_size, fit_label, on_canvas, random_crop
from esl_dist.data.workers import Produced

_ATTEMPTS = 16
"""Replacements tried for one position before the last error is raised: a set this broken is not worth training on."""


@dataclass(frozen=True)
class View:
    """What a stream makes of a sample."""

    size: tuple[int, int]
    """Width and height of the images."""
    fit: Fit = "stretch"
    """How images and labels meet ``size``."""
    mirror: float = 0.0
    blur: float = 0.0
    """Probabilities (see ``augment``)."""
    crop: int = 0
    """Side of a random square of each image; 0 takes the whole. Without labels only."""
    labels: bool = True
    """Whether labels are read."""
    label_dir: Path | None = None
    """Pseudo-labels ``<label_dir>/<name>.png`` (train ids, 255 = ignore), paired by name, in place of the set's own."""
    weight_dir: Path | None = None
    """Weights of the pseudo-labels' pixels, ``<weight_dir>/<name>.png``, in 255ths."""
    part: CropRule | None = None
    """A random part of each image and its label, drawn again while it is poor; None takes the whole."""
    rare: RareClasses | None = None
    """Samples drawn by class, in place of the shuffled order."""
    margins: Margins | None = None
    """Of an unlabelled stream: its weights are 0 in them and 255 elsewhere; None gives no weights."""
    margins_of: Literal["image", "part"] = "image"
    """Margins of the whole image, which move with it, or of the part that is seen."""

    def __post_init__(self) -> None:
        assert not (self.crop and self.labels) and (self.weight_dir is None or self.label_dir is not None)
        assert not (self.labels and self.margins) and not (self.crop and self.part)


@dataclass(frozen=True)
class Order:
    """Which samples a rank sees, and when: the global batch decides, not how it is shared out."""

    seed: int
    batch: int
    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def __post_init__(self) -> None:
        assert 0 <= self.rank < self.world and self.batch >= 1 and self.accumulate >= 1

    def positions(self, number: int) -> range:
        """Global positions in the stream of this rank's micro-batch ``number``, counted from the first step on."""
        step, micro = divmod(number, self.accumulate)
        whole = self.world * self.batch * self.accumulate
        first = step * whole + (micro * self.world + self.rank) * self.batch
        return range(first, first + self.batch)


class Batch(NamedTuple):
    """One micro-batch of training samples."""

    images: Tensor
    """uint8 RGB ``[n, 3, H, W]``."""
    labels: Tensor | None
    """uint8 train ids ``[n, H, W]``, 255 = ignore; None where the stream has none."""
    indices: Tensor
    """int64 ``[n]``: which samples of the data set these are."""
    bad: tuple[Bad, ...]
    """The samples that could not be read and were replaced."""
    positions: tuple[int, ...] = ()
    """Global position of each sample in its stream: whatever else is drawn about a sample is drawn from it."""
    weights: Tensor | None = None
    """uint8 ``[n, H, W]``: weight of each pixel, in 255ths; None where all weigh alike."""


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
    bad: tuple[Bad, ...] = ()
    """The samples that could not be read and are left out of the others."""


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
    view: View
    order: Order

    def __call__(self, number: int) -> Batch:
        images, labels, indices, bad = [], [], [], []
        positions = self.order.positions(number)
        for position in positions:
            image, label, index, problems = self._sample(position)
            images.append(image)
            indices.append(index)
            bad += problems
            if label is not None:
                labels.append(label)
        stacked, weights = torch.stack(labels) if labels else None, None
        if stacked is not None and self.view.weight_dir is not None:
            stacked, weights = stacked.unbind(1)
        elif not self.view.labels:
            stacked, weights = None, stacked
        return Batch(torch.stack(images), stacked, torch.tensor(indices), tuple(bad), tuple(positions), weights)

    def _sample(self, position: int) -> tuple[Tensor, Tensor | None, int, list[Bad]]:
        """The sample at a position; where it cannot be read, the next of the data set that can, and why."""
        seed, view = self.order.seed, self.view
        wanted, index = None, index_at(seed, position, len(self.dataset))
        if view.rare:
            wanted, index = view.rare.draw(seed, position)
        problems: list[Bad] = []
        for candidate in range(index, index + min(_ATTEMPTS, len(self.dataset))):
            candidate %= len(self.dataset)
            try:
                image, label = self._read(candidate)
            except EncodingError:
                raise
            except DataError as error:
                problems.append(Bad(candidate, self.dataset.names[candidate], str(error)))
                continue
            image, label = augment(image, label, seed=seed, position=position, mirror=view.mirror, blur=view.blur)
            if view.crop:
                image = random_crop(image, view.crop, seed=seed, position=position)
            if view.part:
                image, label = self._part(view.part, image, label, position, wanted if candidate == index else None)
            return image, label, candidate, problems
        raise DataError(f"{problems[-1].reason} (and {len(problems) - 1} samples before it cannot be read either)")

    def _part(
        self, rule: CropRule, image: Tensor, label: Tensor | None, position: int, wanted: int | None
    ) -> tuple[Tensor, Tensor | None]:
        """What is seen of a sample; ``wanted`` is the class that it was drawn for."""
        seed = self.order.seed
        if label is None or not self.view.labels:
            window = crop_window((image.shape[1], image.shape[2]), rule, seed, position, 0)
        else:
            window = choose_crop(label if label.dim() == 2 else label[0], rule, seed, position, wanted)
        if label is not None and self.view.margins and self.view.margins_of == "part":
            inside = trusted((window.height, window.width), self.view.margins)
            return window.of(image), torch.minimum(inside, window.of(label))  # nor in what was filled up
        return window.of(image), None if label is None else window.of(label)

    def _read(self, index: int) -> tuple[Tensor, Tensor | None]:
        view = self.view
        with _naming(self.dataset, index):
            image = fitted_image(self.dataset, index, view.size, view.fit)
            if not view.labels:
                if view.margins is None:
                    return image, None
                of_part = view.part is not None and view.margins_of == "part"
                return image, self._inside(NONE if of_part else view.margins, index)
            if view.label_dir is None:
                return image, fitted_label(self.dataset, index, view.size, view.fit)
            label = self._png(view.label_dir, index)
            # One tensor [2, H, W] from here on: whatever moves a label moves its weight.
            return image, label if view.weight_dir is None else torch.stack([label, self._png(view.weight_dir, index)])

    def _inside(self, margins: Margins, index: int) -> Tensor:
        """What lies within an image's margins on the canvas that it is fitted to; filled-up parts do not."""
        width, height = self.view.size
        if self.view.fit != "stretch":
            width, height = content_size(self.dataset.size(index), self.view.size, self.view.fit)
        return on_canvas(trusted((height, width), margins), self.view.size, 0)

    def _png(self, folder: Path, index: int) -> Tensor:
        ids = decode.read_ids(folder / f"{self.dataset.names[index]}.png")
        return fit_label(ids, self.view.size, self.view.fit)


class TrainStream(Iterator[Batch]):
    """Endless micro-batches of one rank.

    Item ``j`` of micro-batch ``a`` of optimiser step ``t`` on rank ``r`` is the sample at global position
    ``t*G + (a*world + r)*batch + j`` with ``G = world*batch*accumulate``: which samples a step sees depends on the
    global batch only.

    Args:
        start_step: optimiser step to begin with; a resumed run passes the step it is at.
        workers: processes that read ahead; 0 reads ahead in a thread.
        prefetch: micro-batches that each worker (or the thread) keeps ready.

    Raises:
        ValueError: labels are asked for and withheld, or a pseudo-label is missing. On iteration: too many unreadable
            samples in a row.
    """

    def __init__(
        self,
        dataset: Dataset,
        view: View,
        order: Order,
        *,
        start_step: int = 0,
        workers: int = 0,
        prefetch: int = 2,
    ) -> None:
        assert start_step >= 0
        for folder in filter(None, (view.label_dir, view.weight_dir)):
            _require_labels(dataset, folder)
        if view.labels and view.label_dir is None and not dataset.labelled:
            raise ValueError(
                "these images have no labels to train on; set labelled=true where they exist, or drop the stage that "
                "learns from them"
            )
        batches = _TrainBatches(dataset, view, order)
        start = start_step * order.accumulate
        self._batches = Produced(batches, start=start, stop=None, workers=workers, prefetch=prefetch)

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
    leave_out: bool

    def __call__(self, number: int) -> InferenceBatch:
        images = torch.zeros((self.batch, 3, self.size[1], self.size[0]), dtype=torch.uint8)
        read: list[int] = []
        labels: list[NDArray[np.uint8]] = []
        bad: list[Bad] = []
        for index in self.indices[number * self.batch : (number + 1) * self.batch]:
            try:
                with _naming(self.dataset, index):
                    image = fitted_image(self.dataset, index, self.size, self.fit)
                    if self.with_labels:
                        labels.append(self.dataset.label(index))
            except DataError as error:
                if not self.leave_out or isinstance(error, EncodingError):
                    raise
                bad.append(Bad(index, self.dataset.names[index], str(error)))
                continue
            images[len(read)] = image
            read.append(index)
        return InferenceBatch(images, read, labels if self.with_labels else None, tuple(bad))


def inference_batches(
    dataset: Dataset,
    indices: Sequence[int],
    *,
    size: tuple[int, int],
    batch: int,
    workers: int = 0,
    with_labels: bool = False,
    fit: Fit = "stretch",
    leave_out: bool = False,
) -> Iterator[InferenceBatch]:
    """Every given sample once, in order, in batches of one shape.

    Args:
        leave_out: a sample that cannot be read is named in its batch's ``bad`` and left out of the rest of it; else it
            is an error, since an image without a label, or a score over fewer images, would go unseen.

    Raises:
        DataError: a sample cannot be read, or its label is of another encoding.
    """
    batches = _InferenceBatches(dataset, tuple(indices), size, batch, with_labels, fit, leave_out)
    produced = Produced(batches, start=0, stop=-(-len(indices) // batch), workers=workers)
    try:
        yield from produced
    finally:
        produced.close()
