"""Weights of classes: where they come from, and that a loss with them is torch's own weighted mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from esl_dist.labels import protocol
from esl_dist.losses import segmentation_loss
from esl_dist.losses.class_weights import PUBLISHED, class_weights

STREET = protocol("19")


def test_the_loss_is_the_weighted_mean_of_torch() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    labels, weights = torch.randint(0, 6, (2, 6, 7)), torch.tensor([1, 0.1, 3, 0.5, 0.01], dtype=torch.float64)
    labels[labels == 5] = 255
    expected = F.cross_entropy(logits, labels, weights, ignore_index=255)
    assert torch.allclose(segmentation_loss(logits, labels, class_weights=weights), expected, atol=1e-12)
    whole = weights[labels[labels != 255]].sum()
    # Two halves over the weights of both are the whole, as ranks are.
    halves = [segmentation_loss(logits[i : i + 1], labels[i : i + 1], whole, weights) for i in range(2)]
    assert torch.allclose(halves[0] + halves[1], expected, atol=1e-12)
    (gradient,) = torch.autograd.grad(halves[0] + halves[1], logits)
    (torchs,) = torch.autograd.grad(expected, logits)
    assert torch.allclose(gradient, torchs, atol=1e-12)
    assert segmentation_loss(logits, torch.full_like(labels, 255), class_weights=weights) == 0


def test_weights_from_the_classes_pixels() -> None:
    pixels = np.array([50, 30, 20, *[0] * 16])
    inverse, enet = (class_weights(word, STREET, pixels) for word in ("inverse", "enet"))
    assert np.allclose(inverse[:3], [0.4, 2 / 3, 1]) and np.allclose(inverse[3:], 2 / 3)  # absent: as the median
    assert np.allclose(inverse, class_weights("median", STREET, pixels))
    assert np.allclose(enet[:3] / enet[2], np.log(1.22) / np.log([1.52, 1.32, 1.22])) and enet.max() == 1
    with pytest.raises(ValueError, match="no pixel of any class"):
        class_weights("inverse", STREET, np.zeros(19, np.int64))


def test_published_weights_go_by_name() -> None:
    hrnet = class_weights("hrnet", STREET)
    assert np.allclose(hrnet * 1.1529, list(PUBLISHED["hrnet"].values()))
    sixteen = class_weights("erfnet", protocol("16"))
    assert np.allclose(sixteen[9] / sixteen[0], PUBLISHED["erfnet"]["sky"] / PUBLISHED["erfnet"]["road"])
    with pytest.raises(ValueError, match="'flat' is not one of them"):
        class_weights("hrnet", protocol("7"))


def test_given_weights() -> None:
    ten = protocol("10")
    assert class_weights("sky:4, sign or light:0.5", ten).tolist() == [0.25] * 5 + [0.125, 0.25, 1, 0.25, 0.25]
    assert class_weights(",".join(map(str, range(1, 11))), ten).tolist() == [i / 10 for i in range(1, 11)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("1,2", "is not one of inverse, median, enet, erfnet, hrnet, nor 19 weights"),
        ("best", "'best' is not one of"),
        ("gate:4", "there is no class 'gate'"),
        ("sky:many", "'sky:many' is no weight"),
        ("sky:-1", "must be above 0"),
        ("sky:nan", "must be above 0"),
    ],
)
def test_a_wrong_weight_is_one_line(words: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_weights(words, STREET)
