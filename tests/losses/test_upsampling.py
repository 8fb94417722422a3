"""Losses in bands of upsampled logits against the same losses of logits upsampled whole by the library."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from esl_dist import losses
from esl_dist.losses import upsampling

CLASSES = 7
SIZES = [((17, 33), (128, 256)), ((13, 25), (97, 193)), ((1, 1), (9, 7)), ((2, 3), (2, 3)), ((5, 5), (3, 4))]


@pytest.fixture(autouse=True, params=[1 << 19, 1 << 14, 1])
def bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One band, a few, one per row."""
    monkeypatch.setitem(upsampling.BAND_BYTES, "cpu", request.param)


def whole(logits: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(logits, size=size, mode="bilinear", align_corners=True)


VIEWS: dict[str, tuple[Callable[[Tensor, tuple[int, int]], Tensor], Callable[[Tensor, tuple[int, int]], Tensor]]] = {
    "logits": (losses.upsample, whole),
    "probabilities": (losses.upsampled_probabilities, lambda x, size: whole(x, size).softmax(1)),
    "information": (losses.upsampled_information, lambda x, size: losses.self_information(whole(x, size).softmax(1))),
}


def logits(cells: tuple[int, int]) -> Tensor:
    made = 4 * torch.randn(2, CLASSES, *cells, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return made.contiguous(memory_format=torch.channels_last).requires_grad_()


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize(("cells", "size"), SIZES)
def test_views_and_their_gradients_equal_the_plain_way(
    name: str, cells: tuple[int, int], size: tuple[int, int]
) -> None:
    grad = torch.randn(2, CLASSES, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for make in VIEWS[name]:
        x = logits(cells)
        out = make(x, size)
        out.backward(grad)
        results.append((out.detach(), x.grad))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize(("cells", "size"), SIZES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_cross_entropy_equals_the_plain_way(cells: tuple[int, int], size: tuple[int, int], dtype: torch.dtype) -> None:
    labels = torch.randint(0, CLASSES + 2, (2, *size), generator=torch.Generator().manual_seed(2)).to(dtype)
    labels[0, 0] = 255
    results = []
    for make in (
        lambda x: losses.upsampled_segmentation_loss(x, labels),
        lambda x: losses.segmentation_loss(whole(x, size), labels),
    ):
        x = logits(cells)
        loss = 0.3 * make(x)
        loss.backward()
        results.append((loss.detach(), x.grad))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize(("cells", "size"), SIZES)
def test_weights_multiply_each_pixel_and_their_sum_is_divided_by(cells: tuple[int, int], size: tuple[int, int]) -> None:
    stream = torch.Generator().manual_seed(3)
    labels = torch.randint(0, CLASSES + 2, (2, *size), generator=stream)
    weights = torch.rand(2, *size, generator=stream, dtype=torch.float64)

    def plain(x: Tensor) -> Tensor:
        known = labels < CLASSES
        pixels = F.cross_entropy(whole(x, size), torch.where(known, labels, 0), reduction="none")
        return (weights * known * pixels).sum() / (weights * known).sum()

    results = []
    for make in (lambda x: losses.upsampled_segmentation_loss(x, labels, weights=weights), plain):
        x = logits(cells)
        loss = make(x)
        loss.backward()
        results.append((loss.detach(), x.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-15)


def test_weights_of_one_change_no_bit() -> None:
    labels = torch.randint(0, CLASSES + 1, (2, 97, 193), generator=torch.Generator().manual_seed(4))
    results = []
    for weights in (None, torch.ones(2, 97, 193)):
        x = logits((13, 25))
        loss = losses.upsampled_segmentation_loss(x, labels, 1000, weights)
        loss.backward()
        results.append((loss.detach(), x.grad))
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


def test_nothing_labelled_gives_zero_and_a_zero_gradient() -> None:
    x = logits((5, 5))
    loss = losses.upsampled_segmentation_loss(x, torch.full((2, 20, 20), 255, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0 and x.grad is not None and x.grad.abs().max() == 0


def test_extreme_logits_give_numbers() -> None:
    """A probability that underflows has no information and no gradient, not a NaN."""
    x = torch.tensor([0.0, -500.0, 500.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2).clone().requires_grad_()
    out = losses.upsampled_information(x, (4, 4))
    out.sum().backward()
    assert x.grad is not None and bool(torch.isfinite(out).all()) and bool(torch.isfinite(x.grad).all())


def test_half_precision_logits_are_taken_in_float32() -> None:
    x = logits((5, 5)).detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses.upsampled_segmentation_loss(x, torch.zeros(2, 20, 20, dtype=torch.uint8))
        views = [view(x, (20, 20)) for view, _ in VIEWS.values()]
    exact = losses.segmentation_loss(whole(x.detach().double(), (20, 20)), torch.zeros(2, 20, 20, dtype=torch.uint8))
    assert all(out.dtype == torch.float32 for out in (loss, *views))
    assert float((loss.detach() - exact).abs()) < 1e-5
