"""What the losses promise beside their values: precision, ignored labels, means that ranks can share, no wait for the
device.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from esl_dist import losses
from tests import deterministic as det

CLASSES = 7
ON_PROBABILITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "entropy": losses.entropy_loss,
    "max_square": losses.max_square_loss,
    "iw_max_square": losses.image_weighted_max_square_loss,
}


def _logits(n: int = 2, seed: int = 50) -> Tensor:
    return torch.from_numpy(det.logits(seed, n, CLASSES, 17, 23, 3)).double()


def _labels(n: int, seed: int = 1) -> Tensor:
    return torch.randint(0, CLASSES, (n, 17, 23), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.int16])
def test_labels_outside_the_classes_are_ignored(dtype: torch.dtype) -> None:
    logits, labels = _logits(), _labels(2)
    labels[0, :5] = 255
    labels[1, 3:9] = CLASSES  # the first id that is no class
    labels = labels.to(dtype)
    if dtype != torch.uint8:
        labels[1, 12:] = -1
    keep = (labels >= 0) & (labels < CLASSES)
    chosen = logits.log_softmax(1).movedim(1, -1)[keep]
    expected = -chosen.gather(1, labels[keep].long()[:, None]).mean()
    torch.testing.assert_close(losses.segmentation_loss(logits, labels), expected, rtol=1e-12, atol=0)


def test_nothing_labelled_gives_zero_and_a_zero_gradient() -> None:
    logits = _logits().requires_grad_()
    loss = losses.segmentation_loss(logits, torch.full((2, 17, 23), 255, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and logits.grad.abs().max() == 0


def test_batches_normalised_together_add_up_to_the_whole() -> None:
    """Two ranks with very different shares of ignored pixels, each divided by the global count, sum to one process."""
    logits, labels = _logits(3), _labels(3)
    labels[0, 2:] = 255
    valid = (labels != 255).sum()
    parts = sum(losses.segmentation_loss(logits[i : i + 1], labels[i : i + 1], valid) for i in range(3))
    torch.testing.assert_close(parts, losses.segmentation_loss(logits, labels), rtol=1e-12, atol=0)


def test_normaliser_does_not_change_the_type_of_the_loss() -> None:
    logits, labels = _logits().float(), _labels(2)
    for valid in (torch.tensor(100.0, dtype=torch.float64), torch.tensor(100), 100):
        loss = losses.segmentation_loss(logits, labels, valid)
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, losses.segmentation_loss(logits, labels, 1) / 100)


@pytest.mark.parametrize("name", ON_PROBABILITIES)
def test_equal_batches_average_to_the_whole(name: str) -> None:
    loss, prob = ON_PROBABILITIES[name], _logits(4).softmax(1)
    halves = (loss(prob[:2]) + loss(prob[2:])) / 2
    torch.testing.assert_close(halves, loss(prob), rtol=1e-6, atol=0)  # float32 weights in the image-weighted one


@pytest.mark.parametrize("name", [*ON_PROBABILITIES, "segmentation", "domain", "upsample"])
def test_half_precision_is_computed_in_float32(name: str) -> None:
    half = _logits().bfloat16()
    whole = half.float()
    function: Callable[[Tensor], Tensor] = {
        **ON_PROBABILITIES,
        "segmentation": lambda x: losses.segmentation_loss(x, _labels(2)),
        "domain": lambda x: losses.domain_loss(x, 1),
        "upsample": lambda x: losses.upsample(x, (40, 50)),
    }[name]
    if name in ON_PROBABILITIES:
        half = half.float().softmax(1).bfloat16()
        whole = half.float()
    expected = function(whole)
    with torch.autocast("cpu", torch.bfloat16):
        computed = function(half)
    assert computed.dtype == torch.float32
    torch.testing.assert_close(computed, expected, rtol=0, atol=0)


def test_upsampling_keeps_the_corners() -> None:
    small = _logits()
    large = losses.upsample(small, (65, 89))
    assert large.shape == (2, CLASSES, 65, 89) and large.dtype == torch.float64
    for y, x in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        torch.testing.assert_close(large[..., y, x], small[..., y, x], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        large[..., ::4, ::4], small, rtol=1e-12, atol=1e-12
    )  # 64/16 and 88/22: every fourth pixel is an original


def test_entropy_is_one_for_the_uniform_and_zero_for_the_certain() -> None:
    uniform = torch.full((1, CLASSES, 3, 3), 1 / CLASSES)
    certain = torch.zeros(1, CLASSES, 3, 3)
    certain[:, 2] = 1
    assert losses.entropy_loss(uniform).item() == pytest.approx(1, abs=1e-6)
    assert losses.entropy_loss(certain.requires_grad_()).item() == pytest.approx(0, abs=1e-6)
    assert losses.max_square_loss(certain).item() == pytest.approx(-1 / (2 * CLASSES))
    (gradient,) = torch.autograd.grad(losses.entropy_loss(certain), certain)
    assert gradient.isfinite().all()


def test_image_weights_by_hand() -> None:
    """One image of 2 classes, 3 pixels against 1: w = 1 / (n_c^0.5 * 4^0.5)."""
    prob = torch.tensor([0.9, 0.8, 0.7, 0.4], dtype=torch.float64)
    prob = torch.stack([prob, 1 - prob]).view(1, 2, 2, 2)
    weights = torch.tensor([1 / math.sqrt(12), 1 / math.sqrt(12), 1 / math.sqrt(12), 1 / 2], dtype=torch.float64).view(
        1, 1, 2, 2
    )
    expected = -(weights * prob**2).sum() / 2
    torch.testing.assert_close(losses.image_weighted_max_square_loss(prob, 0.5), expected, rtol=1e-6, atol=0)


def test_least_squares_domain_loss() -> None:
    logits = torch.tensor([[[[0.0, 2.0]]]])
    assert losses.domain_loss(logits, 1, "ls").item() == pytest.approx(1)
    assert losses.domain_loss(logits, 0, "ls").item() == pytest.approx(2)
    with pytest.raises(ValueError, match=r"align\.gan"):
        losses.domain_loss(logits, 0, "hinge")


def test_no_loss_reads_a_value_on_the_host() -> None:
    """On a device a read waits for it; meta tensors have no values, so any read fails here."""
    logits = torch.empty(2, CLASSES, 8, 8, device="meta", requires_grad=True)
    labels = torch.empty(2, 8, 8, device="meta", dtype=torch.uint8)
    prob = logits.softmax(1)
    everything = [
        losses.segmentation_loss(losses.upsample(logits, (8, 8)), labels),
        losses.segmentation_loss(logits, losses.guidance_labels(prob, prob, 0.9), torch.empty((), device="meta")),
        *(loss(prob) for loss in ON_PROBABILITIES.values()),
        losses.domain_loss(logits, 0),
        losses.domain_loss(logits, 1, "ls"),
    ]
    torch.stack(everything).sum().backward()
