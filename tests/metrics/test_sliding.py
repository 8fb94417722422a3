"""Windows over an image, against sums written out pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from esl_dist.config.schema import EvalConfig
from esl_dist.metrics.sliding import sliding, starts, windowed


def test_windows_cover_a_side() -> None:
    assert starts(2048, 1024, 512) == [0, 512, 1024] and starts(1024, 1024, 512) == [0]
    assert starts(21, 8, 8) == [0, 8, 13]


def predict(images: Tensor) -> Tensor:
    """Full-size logits that depend on a window's own borders: brightness, and how far right a pixel is in it."""
    ramp = torch.linspace(0, 1, images.shape[-1]).expand_as(images[:, 0])
    return torch.stack([images[:, 0].float() / 9, ramp, images[:, 1].float() / 7], dim=1)


@pytest.mark.parametrize("averaged", ["logits", "probabilities"])
def test_the_mean_where_windows_overlap(averaged: str) -> None:
    images = torch.randint(0, 99, (2, 3, 6, 11), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = sliding(predict, (5, 4), (3, 2), averaged)(images)  # type: ignore[arg-type]
    total, count = torch.zeros(2, 3, 6, 11), torch.zeros(6, 11)
    for top in (0, 2):
        for left in (0, 3, 6):
            said = predict(images[:, :, top : top + 4, left : left + 5])
            said = said.softmax(1) if averaged == "probabilities" else said
            total[:, :, top : top + 4, left : left + 5] += said
            count[top : top + 4, left : left + 5] += 1
    mean = total / count
    torch.testing.assert_close(found.exp() if averaged == "probabilities" else found, mean)
    assert torch.equal(found.argmax(1), mean.argmax(1))


def test_one_window_is_the_whole_image_and_a_larger_one_is_refused() -> None:
    images = torch.randint(0, 99, (1, 3, 6, 8), dtype=torch.uint8)
    assert torch.equal(sliding(predict, (8, 6), (8, 6), "logits")(images), predict(images))
    with pytest.raises(ValueError, match=r"^eval\.window: 9x6 is larger than the images, 8x6"):
        sliding(predict, (9, 6), (4, 4), "logits")(images)


def test_options() -> None:
    images = torch.randint(0, 99, (1, 3, 6, 8), dtype=torch.uint8)
    assert windowed(predict, EvalConfig()) is predict
    found = windowed(predict, EvalConfig(window=(4, 6), input_size=(8, 6)))(images)
    assert torch.equal(found, sliding(predict, (4, 6), (2, 3), "logits")(images))
    with pytest.raises(ValueError, match=r"^eval\.window: 9x6 is larger than eval\.input_size"):
        EvalConfig(window=(9, 6), input_size=(8, 6))
    with pytest.raises(ValueError, match=r"^eval\.stride: .*not 0x4"):
        EvalConfig(stride=(0, 4))
