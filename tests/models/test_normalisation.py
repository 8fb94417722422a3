"""Normalisation: its arithmetic, its order of channels, and that no forward copies its constants."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from esl_dist.models.normalisation import Normalisation

MEAN, DEVIATION = (104.0, 108.0, 112.0), (60.0, 61.0, 62.0)


def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 5, 7), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


@pytest.mark.parametrize("deviation", [(1.0, 1.0, 1.0), (64.0, 64.0, 64.0), DEVIATION])
def test_each_channel_has_its_own_mean_and_deviation(deviation: tuple[float, float, float]) -> None:
    given = images()
    kept = given.clone()
    for order, turned in (("bgr", given.flip(1)), ("rgb", given)):
        found = Normalisation(order, MEAN, deviation)(given)  # type: ignore[arg-type]
        for channel in range(3):
            assert torch.equal(found[:, channel], (turned[:, channel].float() - MEAN[channel]) / deviation[channel])
        assert found.dtype == torch.float32
    assert torch.equal(given, kept)


def test_values_of_the_options_are_in_bgr_whatever_the_network_reads() -> None:
    bgr = Normalisation.of_bgr("bgr", MEAN, DEVIATION)(images())
    rgb = Normalisation.of_bgr("rgb", MEAN, DEVIATION)(images())
    assert torch.equal(bgr.flip(1), rgb)


def test_floating_images_keep_their_gradient_and_agree() -> None:
    made = Normalisation("bgr", MEAN, DEVIATION)
    given = images().double().requires_grad_()
    made.of_values(given).sum().backward()
    assert given.grad is not None
    assert torch.allclose(given.grad[0, :, 0, 0], 1 / torch.tensor(DEVIATION[::-1], dtype=torch.float64))
    assert torch.equal(made.of_values(images().float()), made(images()))


def test_constants_are_made_once_and_outlive_inference_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Normalisation("rgb", (1.25, 2.25, 3.25), (4.5, 5.5, 6.5))
    with torch.inference_mode():
        made(images())
    monkeypatch.setattr(torch, "tensor", None)  # a second forward must not need it
    scale = torch.ones((), requires_grad=True)
    made.of_values(images().float() * scale).sum().backward()
    assert scale.grad is not None


@pytest.mark.parametrize("wrong", [{"order": "gbr"}, {"deviation": (1.0, 0.0, 1.0)}, {"mean": (1.0, 2.0)}])
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="normalisation"):
        Normalisation(**({"order": "bgr", "mean": MEAN} | wrong))  # type: ignore[arg-type]


def test_as_published() -> None:
    image = torch.tensor([[[[10]], [[20]], [[30]]]], dtype=torch.uint8)  # R, G, B
    mean = (104.00698793, 116.66876762, 122.67891434)
    found = Normalisation("bgr", mean)(image)
    assert found.dtype == torch.float32
    expected = np.float32([30, 20, 10]) - np.float32(mean)
    assert np.array_equal(found.flatten().numpy(), expected)
    scaled = Normalisation("bgr", mean, (64.0, 64.0, 64.0))(image)
    assert np.allclose(scaled.flatten().numpy(), expected / 64, rtol=1e-6)
