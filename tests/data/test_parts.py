"""Parts of images, samples by class and margins as the loader gives them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from esl_dist.data import margins
from esl_dist.data.crops import CropRule, choose_crop, crop_window
from esl_dist.data.loader import Batch, Order, TrainStream, View
from esl_dist.data.rare_classes import RareClasses
from esl_dist.data.sampler import uniform


def test_margins_are_the_published_pixels() -> None:
    def outside(mask: Tensor) -> tuple[int, ...]:
        rows, columns = (mask != 0).any(1).nonzero().flatten(), (mask != 0).any(0).nonzero().flatten()
        assert set(mask.unique().tolist()) <= {0, 255}
        bottom, right = mask.shape[0] - 1 - int(rows[-1]), mask.shape[1] - 1 - int(columns[-1])
        return int(rows[0]), bottom, int(columns[0]), right

    assert outside(margins.trusted((512, 512), margins.OF_CROP["v1"])) == (15, 120, 0, 0)
    assert outside(margins.trusted((1024, 2048), margins.OF_ORIGINAL["v2"])) == (30, 240, 30, 30)
    assert outside(margins.trusted((1024, 2048), margins.OF_ORIGINAL["vfm"])) == (30, 256, 61, 61)
    assert bool((margins.trusted((7, 9), margins.NONE) == 255).all())


class Painted:
    """Eight images whose pixels say where they are, with a class each in the right half."""

    names: Sequence[str] = tuple(f"i{i}" for i in range(8))
    labelled = True

    def __len__(self) -> int:
        return 8

    def image(self, index: int) -> np.ndarray:
        image = np.zeros((20, 40, 3), np.uint8)
        image[..., 0], image[..., 1], image[..., 2] = np.arange(20)[:, None], np.arange(40), index
        return image

    def label(self, index: int) -> np.ndarray:
        label = np.zeros((20, 40), np.uint8)
        label[:, 20:] = 1 + index % 4
        return label

    def size(self, index: int) -> tuple[int, int]:
        return 40, 20


def batches(view: View, steps: int, order: Order | None = None) -> list[Batch]:
    stream = TrainStream(Painted(), view, order or Order(3, 4), prefetch=1)
    try:
        return [next(stream) for _ in range(steps)]
    finally:
        stream.close()


def test_image_and_label_are_cut_alike_and_by_the_rule() -> None:
    rule = CropRule((12, 10), largest=0.9)
    for batch in batches(View((40, 20), mirror=0.5, part=rule), 6):
        assert batch.images.shape == (4, 3, 10, 12) and batch.labels is not None
        for image, label, position in zip(batch.images, batch.labels, batch.positions, strict=True):
            column, index = image[1], int(image[2, 0, 0])
            assert torch.equal(label, torch.where(column >= 20, 1 + index % 4, 0).to(torch.uint8))
            mirrored = uniform(3, position, 0) < 0.5
            whole = torch.from_numpy(Painted().label(index))
            window = choose_crop(whole.flip(-1) if mirrored else whole, rule, 3, position)
            assert int(image[0, 0, 0]) == window.top
            assert int(column[0, 0]) == (39 - window.left if mirrored else window.left)


def test_samples_are_drawn_by_class_and_their_parts_hold_it() -> None:
    counts = np.array([np.bincount(Painted().label(i).ravel(), minlength=5) for i in range(8)])
    rare = RareClasses.of(counts, temperature=10.0, min_pixels=100)
    batch = batches(View((40, 20), part=CropRule((12, 10), wanted=30), rare=rare), 1, Order(3, 64))[0]
    drawn = [rare.draw(3, position) for position in batch.positions]
    assert batch.indices.tolist() == [index for _, index in drawn] and batch.labels is not None
    assert all(int((label == c).sum()) > 30 for label, (c, _) in zip(batch.labels, drawn, strict=True))


def within(mask: Tensor) -> list[int]:
    rows, columns = (mask == 255).any(1).nonzero().flatten(), (mask == 255).any(0).nonzero().flatten()
    return [int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])]


def test_margins_of_the_image_move_with_it_and_those_of_the_part_do_not() -> None:
    quarter = margins.Margins(*(margins.Fraction(n, 20) for n in (1, 5, 2, 2)))
    (whole,) = batches(View((40, 20), labels=False, margins=quarter), 1)
    assert whole.labels is None and whole.weights is not None
    assert [within(mask) for mask in whole.weights] == [[1, 14, 4, 35]] * 4
    part = CropRule((12, 10))
    (moved,) = batches(View((40, 20), mirror=0.5, labels=False, margins=quarter, part=part), 1)
    assert moved.weights is not None
    for image, mask in zip(moved.images, moved.weights, strict=True):
        rows, columns = image[0], image[1]
        inside = (rows >= 1) & (rows < 15) & (columns >= 4) & (columns < 36)
        assert torch.equal(mask == 255, inside)
    (fixed,) = batches(View((40, 20), labels=False, margins=quarter, margins_of="part", part=part), 1)
    assert fixed.weights is not None and [within(mask) for mask in fixed.weights] == [[0, 7, 1, 10]] * 4
    assert [int(image[0, 0, 0]) for image in fixed.images] == [
        crop_window((20, 40), part, 3, position, 0).top for position in fixed.positions
    ]


def test_what_fills_a_canvas_up_lies_in_the_margins() -> None:
    (padded,) = batches(View((32, 32), fit="pad", labels=False, margins=margins.NONE), 1)
    assert padded.weights is not None and [within(mask) for mask in padded.weights] == [[0, 15, 0, 31]] * 4
    (part,) = batches(
        View(
            (32, 32), fit="pad", labels=False, margins=margins.OF_CROP["v1"], margins_of="part", part=CropRule((32, 32))
        ),
        1,
    )
    assert part.weights is not None and [within(mask) for mask in part.weights] == [[0, 15, 0, 31]] * 4
