"""Test-time averages of predictions."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from esl_dist.metrics.ensemble import flipped, multi_scale, weighted


def _left_bright(images: torch.Tensor) -> torch.Tensor:
    """A 'network' at stride 4 that is not symmetric: logits are the means of blocks, times a ramp over columns."""
    pooled = functional.avg_pool2d(images.float(), 4)
    return pooled * torch.linspace(1, 2, pooled.shape[-1])


IMAGES = torch.randint(0, 256, (2, 3, 16, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def test_flip_is_the_mean_of_both_views_and_symmetric() -> None:
    both = flipped(_left_bright)
    expected = (_left_bright(IMAGES) + _left_bright(IMAGES.flip(-1)).flip(-1)) / 2
    assert torch.equal(both(IMAGES), expected)
    assert torch.allclose(both(IMAGES.flip(-1)), both(IMAGES).flip(-1))
    assert not torch.allclose(_left_bright(IMAGES.flip(-1)), _left_bright(IMAGES).flip(-1))


def test_multi_scale_feeds_every_size_and_answers_at_the_finest() -> None:
    sizes = []

    def spy(images: torch.Tensor) -> torch.Tensor:
        assert images.dtype == torch.uint8
        sizes.append(tuple(images.shape[-2:]))
        return _left_bright(images)

    logits = multi_scale(spy, [0.5, 1.0, 2.0])(IMAGES)
    assert sizes == [(8, 12), (16, 24), (32, 48)]
    assert logits.shape == (2, 3, 8, 12)
    assert torch.equal(multi_scale(_left_bright, [1.0])(IMAGES), _left_bright(IMAGES))


def test_weights_of_an_ensemble() -> None:
    one, two = torch.full((1, 3, 2, 2), 1.0), torch.full((1, 3, 2, 2), 5.0)
    assert torch.equal(weighted([lambda _: one, lambda _: two], [1, 3])(IMAGES), torch.full((1, 3, 2, 2), 4.0))


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [-1.0, 2.0]])
def test_impossible_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weight"):
        weighted([_left_bright, _left_bright], weights)


@pytest.mark.parametrize("scales", [[], [0.0, 1.0]])
def test_impossible_scales_are_refused(scales: list[float]) -> None:
    with pytest.raises(ValueError, match="scales"):
        multi_scale(_left_bright, scales)
