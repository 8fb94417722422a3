"""Images kept in shape on a canvas of another: where the content lies, what the padding holds, and where logits are
cut.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from esl_dist.data.transforms import content_size, cut_padding, fit_image, fit_label, resize_image, resize_label

CANVAS = (1024, 768)


@pytest.mark.parametrize(
    ("native", "content"),
    [
        ((4032, 3024), CANVAS),
        ((3264, 1836), (1024, 576)),
        ((1836, 3264), (432, 768)),
        ((640, 480), CANVAS),
        ((3000, 2999), (768, 768)),
        ((9000, 10), (1024, 8)),
    ],
)
def test_content_keeps_its_shape_on_the_stride_grid(native: tuple[int, int], content: tuple[int, int]) -> None:
    assert content_size(native, CANVAS, "pad") == content
    assert content_size(native, CANVAS, "stretch") == CANVAS


def test_content_is_top_left_and_the_rest_is_black_and_ignored() -> None:
    image = np.random.RandomState(0).randint(1, 256, (60, 120, 3)).astype(np.uint8)
    label = np.random.RandomState(1).randint(0, 19, (60, 120)).astype(np.uint8)
    canvas, ids = fit_image(image, (64, 48), "pad"), fit_label(label, (64, 48), "pad")
    assert torch.equal(canvas[:, :32], resize_image(image, (64, 32))) and not canvas[:, 32:].any()
    assert torch.equal(ids[:32], resize_label(label, (64, 32))) and (ids[32:] == 255).all()
    assert torch.equal(fit_image(image, (64, 48), "stretch"), resize_image(image, (64, 48)))
    assert torch.equal(fit_label(label, (64, 48), "stretch"), resize_label(label, (64, 48)))


def test_a_pseudo_label_of_the_content_lies_where_its_image_lies() -> None:
    """Labels extracted at content size meet the canvas exactly as the image did."""
    label = np.full((576, 1024), 3, np.uint8)
    canvas = fit_label(label, CANVAS, "pad")
    assert (canvas[:576] == 3).all() and (canvas[576:] == 255).all()


@pytest.mark.parametrize("native", [(3264, 1836), (1836, 3264), (3000, 2999), (4032, 3024)])
def test_logits_are_cut_where_the_image_ends(native: tuple[int, int]) -> None:
    """A ramp over the canvas, cut and upsampled to the content, is the ramp over the content to less than a pixel."""
    rows = torch.linspace(0, 767, 97)[:, None].expand(97, 129)
    columns = torch.linspace(0, 1023, 129)[None].expand(97, 129)
    width, height = content_size(native, CANVAS, "pad")
    cut = cut_padding(torch.stack([rows, columns]), native, CANVAS, "pad")
    up = functional.interpolate(cut[None], (height, width), mode="bilinear", align_corners=True)[0]
    assert (up[0] - torch.arange(height)[:, None]).abs().max() < 1
    assert (up[1] - torch.arange(width)[None]).abs().max() < 1
    assert cut_padding(rows, native, CANVAS, "stretch").shape == (97, 129)
