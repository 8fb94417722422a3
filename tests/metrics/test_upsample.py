"""The argmax by cells is the argmax of the upsampled logits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from esl_dist.metrics.upsample import upsampled_argmax


def _smooth(classes: int, h: int, w: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, max(2, h // 6), max(2, w // 6), generator=generator) * 4
    return functional.interpolate(coarse, (h, w), mode="bicubic", align_corners=True)[0] + 0.2 * torch.randn(classes, h, w, generator=generator)


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize(("h", "w", "width", "height"), [(17, 33, 256, 128), (5, 7, 33, 31), (9, 17, 9, 4), (12, 20, 20, 12), (65, 129, 517, 259)])
def test_equals_interpolate_then_argmax(h: int, w: int, width: int, height: int, smooth: bool) -> None:
    logits = _smooth(19, h, w, h) if smooth else torch.randn(19, h, w, generator=torch.Generator().manual_seed(w))
    exact = functional.interpolate(logits.double()[None], (height, width), mode="bilinear", align_corners=True)[0]
    found = upsampled_argmax(logits, (width, height)).long()
    assert found.shape == (height, width)
    # Float32 may break a tie of the exact values, and nothing else.
    lost = exact.amax(0) - exact.gather(0, found[None])[0]
    assert lost.max() < 1e-5


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 4), (3, 1)])
def test_maps_of_one_pixel(h: int, w: int) -> None:
    logits = torch.randn(5, h, w, generator=torch.Generator().manual_seed(3))
    expected = functional.interpolate(logits[None], (6, 8), mode="bilinear", align_corners=True)[0].argmax(0)
    assert torch.equal(upsampled_argmax(logits, (8, 6)).long(), expected)


def test_the_first_class_wins_a_tie_and_one_output_pixel_is_the_corner() -> None:
    assert upsampled_argmax(torch.zeros(4, 3, 3), (7, 5)).unique().tolist() == [0]
    logits = torch.zeros(4, 3, 3)
    logits[2, 0, 0] = 1
    assert upsampled_argmax(logits, (1, 1)).tolist() == [[2]]


def test_same_labels_for_any_number_of_threads() -> None:
    logits = _smooth(19, 33, 65, 8)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = upsampled_argmax(logits, (400, 200))
        torch.set_num_threads(2)
        assert torch.equal(one, upsampled_argmax(logits, (400, 200)))
    finally:
        torch.set_num_threads(before)
