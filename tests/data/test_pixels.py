"""Sampled pixels: which, how balanced, and that nothing but seed, position and labels decides."""

from __future__ import annotations

import torch

from esl_dist.data.pixels import Pixels, image_keys, on_grid
from esl_dist.data.pixels import sample as sampled
from esl_dist.data.sampler import hashes
from esl_dist.labels import IGNORE

CLASSES = 5


def sample(labels: torch.Tensor, num_classes: int, count: int, seed: int, positions: tuple[int, ...]) -> Pixels:
    return sampled(labels, num_classes, count, image_keys(seed, positions, labels.device))


def test_it_is_what_sorting_by_hand_gives() -> None:
    made = labels()
    pixels = sample(made, CLASSES, 700, 7, (3, 4))
    for image, position in enumerate((3, 4)):
        label, keys = made[image].flatten().tolist(), hashes(7, position, 600).tolist()
        turns: dict[int, int] = {}
        ranked = []
        for key, place in sorted(zip(keys, range(600), strict=True)):
            if label[place] < CLASSES:
                turns[label[place]] = turn = turns.get(label[place], -1) + 1
                ranked.append((turn, key, place))
        expected = [place for _, _, place in sorted(ranked)]
        assert pixels.where[image, : len(expected)].tolist() == expected
        assert (pixels.labels[image, len(expected) :] == IGNORE).all()


def labels(n: int = 2) -> torch.Tensor:
    """Mostly class 0, a little of 1 and 2, one pixel of 3, none of 4, a tenth without a class."""
    made = torch.zeros((n, 20, 30), dtype=torch.uint8)
    made[:, 3:5, 4:9] = 1
    made[:, 9, :12] = 2
    made[:, 19, 29] = 3
    made[:, :2] = 255
    made[:, 7] = CLASSES  # the first id that is no class
    return made


def test_a_grid_point_takes_the_label_at_its_centre() -> None:
    full = torch.arange(64 * 96).view(1, 64, 96).remainder(251).to(torch.uint8)
    small = on_grid(full, (9, 13))
    assert small.shape == (1, 9, 13)
    assert torch.equal(small[:, :8, :12], full[:, ::8, ::8])
    assert torch.equal(small[:, 8, :12], full[:, 63, ::8]) and torch.equal(small[:, :8, 12], full[:, ::8, 95])


def test_classes_take_turns_and_rare_ones_are_whole() -> None:
    full = labels()
    pixels = sample(full, CLASSES, 64, 7, (3, 4))
    for image in range(2):
        assert torch.equal(full[image].flatten()[pixels.where[image]], pixels.labels[image])
        assert len(pixels.where[image].unique()) == 64
        assert torch.bincount(pixels.labels[image].long(), minlength=CLASSES).tolist() == [41, 10, 12, 1, 0]
        for prefix in (4, 8, 31):  # as balanced as the whole, as far as there are pixels
            counts = torch.bincount(pixels.labels[image, :prefix].long(), minlength=CLASSES)
            assert int(counts[:3].max() - counts[:3].min()) <= 1 and counts[3] == 1
    assert not torch.equal(pixels.where[0], pixels.where[1])


def test_fewer_pixels_than_asked_for_leave_places_without_a_label() -> None:
    full = labels(1)
    full[full == 0] = 255
    pixels = sample(full, CLASSES, 64, 7, (3,))
    assert int((pixels.labels != IGNORE).sum()) == 23 and (pixels.labels[0, 23:] == IGNORE).all()
    nothing = sample(torch.full_like(full, 255), CLASSES, 8, 7, (3,))
    assert (nothing.labels == IGNORE).all() and (nothing.where == 0).all()


def test_seed_position_and_labels_decide_and_nothing_else() -> None:
    together = sample(labels(3), CLASSES, 50, 7, (10, 11, 12))
    alone = [sample(labels(1), CLASSES, 50, 7, (position,)) for position in (10, 11, 12)]
    assert torch.equal(together.where, torch.cat([pixels.where for pixels in alone]))
    assert not torch.equal(together.where, sample(labels(3), CLASSES, 50, 8, (10, 11, 12)).where)


def test_an_unlabelled_image_is_sampled_evenly() -> None:
    """2 000 draws of 30 from 600 pixels: every pixel about 100 times, none much more often than chance has it."""
    zeros = torch.zeros((1, 20, 30), dtype=torch.uint8)
    count = sum(
        torch.bincount(sample(zeros, 1, 30, 5, (position,)).where[0], minlength=600) for position in range(2000)
    )
    assert isinstance(count, torch.Tensor)
    assert int(count.sum()) == 60_000 and int(count.min()) > 55 and int(count.max()) < 155
