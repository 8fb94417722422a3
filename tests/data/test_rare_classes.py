"""Which class and image a position draws, and which crop."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esl_dist.data.crops import CropRule, choose_crop, crop_window
from esl_dist.data.decode import DataError
from esl_dist.data.rare_classes import RareClasses, class_probabilities


def test_the_published_probabilities() -> None:
    found = class_probabilities(np.array([90, 9, 1]), 0.01)
    exponent = np.array([10.0, 91.0, 99.0])
    np.testing.assert_allclose(found, np.exp(exponent - 99) / np.exp(exponent - 99).sum(), rtol=1e-12)
    assert found[2] == pytest.approx(0.99966, abs=5e-6)
    assert class_probabilities(np.array([5, 0, 5]), 0.01).tolist() == [0.5, 0, 0.5]
    with pytest.raises(ValueError, match="none of the protocol's classes"):
        class_probabilities(np.zeros(3, np.int64), 0.01)


COUNTS = np.array([[9000, 10, 0], [100, 4000, 0], [9000, 5000, 2000], [9000, 0, 0]])


def test_classes_by_their_probability_and_images_with_enough_of_them_alike() -> None:
    rare = RareClasses.of(COUNTS, temperature=0.5)
    assert rare.classes == (0, 1)  # no image has enough of class 2
    drawn = np.array([rare.draw(7, position) for position in range(6000)])
    probability = class_probabilities(COUNTS.sum(0), 0.5)[:2]
    assert np.mean(drawn[:, 0] == 1) == pytest.approx(probability[1] / probability.sum(), abs=0.02)
    for c, images in ((0, [0, 2, 3]), (1, [1, 2])):
        own = drawn[drawn[:, 0] == c, 1]
        assert sorted(set(own)) == images
        assert all(np.mean(own == image) == pytest.approx(1 / len(images), abs=0.03) for image in images)
    assert rare.draw(7, 41) == tuple(drawn[41])
    with pytest.raises(ValueError, match="more than 10000 pixels"):
        RareClasses.of(COUNTS, 0.5, 10000)


def striped() -> torch.Tensor:
    """Class 0 all over but for a third of class 5 at the right, some of it unlabelled."""
    label = torch.zeros((40, 60), dtype=torch.uint8)
    label[:, 40:] = 5
    label[:10, :10] = 255
    return label


def test_a_poor_crop_is_drawn_again() -> None:
    rule = CropRule((20, 20), largest=0.9)
    found = [choose_crop(striped(), rule, 1, position) for position in range(50)]
    first = [crop_window((40, 60), rule, 1, position, 0) for position in range(50)]

    def is_poor(window: object) -> bool:
        counts = np.bincount(window.of(striped()).numpy().ravel(), minlength=256)[:255]  # type: ignore[attr-defined]
        return bool(counts.max() >= 0.9 * counts.sum())

    assert sum(map(is_poor, first)) > 20 > 5 > sum(map(is_poor, found))
    assert any(a == b for a, b in zip(found, first, strict=True))  # a good one is taken at once
    assert all(window == choose_crop(striped(), rule, 1, position) for position, window in enumerate(found))


def test_the_wanted_class_is_searched_for_and_the_last_draw_taken_where_there_is_none() -> None:
    rule = CropRule((20, 20), wanted=100)
    for position in range(20):
        window = choose_crop(striped(), rule, 1, position, wanted=5)
        assert int((window.of(striped()) == 5).sum()) > 100
    last = choose_crop(striped(), rule, 1, 0, wanted=9)
    assert last == crop_window((40, 60), rule, 1, 0, rule.searches * (rule.redraws + 1))
    with pytest.raises(DataError, match="60x40 has no crop of 64x20"):
        crop_window((40, 60), CropRule((64, 20)), 0, 0, 0)
