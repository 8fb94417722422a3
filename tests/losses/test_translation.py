"""Each loss of the translation against a value worked out by hand, and its gradient against differences."""

from __future__ import annotations

import pytest
import torch

from esl_dist.losses.translation import perceptual_loss, realism_loss, reconstruction_loss


def test_realism() -> None:
    judged = torch.tensor([[[[1.0, 0.5], [-1.0, 2.0]]]])
    assert float(realism_loss(judged, real=True)) == pytest.approx((0 + 0.25 + 4 + 1) / 4)
    assert float(realism_loss(judged, real=False)) == pytest.approx((1 + 0.25 + 1 + 4) / 4)


def test_reconstruction() -> None:
    made, wanted = torch.tensor([[0.5, -1.0, 0.25]]), torch.tensor([[0.0, 1.0, 0.25]])
    assert float(reconstruction_loss(made, wanted)) == pytest.approx((0.5 + 2 + 0) / 3)


def test_perceptual() -> None:
    """One class map 1, 2, 3 against 3, 0, 0: normalised -√1.5, 0, √1.5 against √2, -√½, -√½."""
    logits, wanted = (
        torch.tensor([[[[1.0, 2.0, 3.0]]]], dtype=torch.float64),
        torch.tensor([[[[3.0, 0.0, 0.0]]]], dtype=torch.float64),
    )
    expected = ((1.5**0.5 + 2**0.5) ** 2 + 0.5 + (1.5**0.5 + 0.5**0.5) ** 2) / 3
    assert float(perceptual_loss(logits, wanted)) == pytest.approx(
        expected, rel=1e-4
    )  # the norm adds 1e-5 to each variance


def test_perceptual_looks_at_contrast_per_image_and_class() -> None:
    logits = torch.randn(2, 3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    brighter = logits * torch.tensor([2.0, 3.0, 0.5], dtype=torch.float64).view(1, 3, 1, 1) + torch.tensor(
        [1.0, -4.0], dtype=torch.float64
    ).view(2, 1, 1, 1)
    assert float(perceptual_loss(brighter, logits)) < 1e-8
    assert float(perceptual_loss(logits.flip(0), logits)) > 0.1
    halves = [float(perceptual_loss(logits[i : i + 1].flip(3), logits[i : i + 1])) for i in range(2)]
    assert float(perceptual_loss(logits.flip(3), logits)) == pytest.approx(sum(halves) / 2)


def test_low_precision_is_summed_in_float32_and_gradients_are_right() -> None:
    judged = torch.randn(2, 1, 4, 4).bfloat16()
    assert realism_loss(judged, real=True).dtype == torch.float32
    x, y = (torch.randn(2, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    x.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: perceptual_loss(v, y), (x,))
    assert torch.autograd.gradcheck(lambda v: realism_loss(v, real=False), (x,))
    assert torch.autograd.gradcheck(lambda v: reconstruction_loss(v, y), (x,))
