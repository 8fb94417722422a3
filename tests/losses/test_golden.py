"""Every loss against figures of the published implementations: value and gradient with respect to the logits, float64
and float32.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from esl_dist import losses
from esl_dist.models import Discriminator
from tests import deterministic as det

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "loss.json").read_text())
DTYPES = {"float64": torch.float64, "float32": torch.float32}
# Relative to the largest magnitude of a figure's own array; float32 files hold one summation order out of many.
TOLERANCE = {"float64": 1e-10, "float32": 2e-5}


def _logits(*args: int) -> Tensor:
    return torch.from_numpy(det.logits(*args))


def _softmax(loss: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda logits: loss(torch.softmax(logits, dim=1))


LOGITS = _logits(1, 1, 19, 33, 65, 3)
AUX = _logits(2, 1, 19, 33, 65, 3)
PAIR = _logits(3, 2, 19, 33, 65, 3)
EXTREME = _logits(4, 1, 19, 33, 65, 80)
BATCH19 = _logits(6, 19, 19, 16, 16, 3)
DOMAIN = torch.from_numpy(np.random.RandomState(5_000_003).standard_normal((1, 1, 4, 8)).astype(np.float32) * 2)
LABELS = torch.from_numpy(det.label_map(1, 33, 65))[None]
LABELS2 = torch.from_numpy(np.stack([det.label_map(1, 33, 65), det.label_map(2, 33, 65)]))
LABELS210 = LABELS.clone()
LABELS210[:, :5] = 210


def _guidance(threshold: float, main: Tensor = LOGITS, aux: Tensor = AUX, dtype: torch.dtype = torch.float64) -> Tensor:
    return losses.guidance_labels(main.to(dtype).softmax(1), aux.to(dtype).softmax(1), threshold)


CASES: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "cross_entropy_2d": (lambda x: losses.segmentation_loss(x, LABELS), LOGITS),
    "cross_entropy_2d_batch2": (lambda x: losses.segmentation_loss(x, LABELS2), PAIR),
    "cross_entropy_2d_label210": (lambda x: losses.segmentation_loss(x, LABELS210), LOGITS),
    "bce_source0": (lambda x: losses.domain_loss(x, 0), DOMAIN),
    "bce_target1": (lambda x: losses.domain_loss(x, 1), DOMAIN),
    "entropy_loss": (_softmax(losses.entropy_loss), LOGITS),
    "entropy_loss_batch2": (_softmax(losses.entropy_loss), PAIR),
    "entropy_loss_biglogits": (_softmax(losses.entropy_loss), EXTREME),
    "MaxSquareloss": (_softmax(losses.max_square_loss), LOGITS),
    "MaxSquareloss_batch2": (_softmax(losses.max_square_loss), PAIR),
    "IW_MaxSquareloss": (_softmax(lambda p: losses.image_weighted_max_square_loss(p, 0.2)), LOGITS),
    # MaxSquare's "entropy" option is the same function in nats and averaged over classes.
    "softCrossEntropy": (_softmax(lambda p: losses.entropy_loss(p) * math.log(19) / 19), LOGITS),
    "guidance_loss_on_aux_thr0.95": (lambda x: losses.segmentation_loss(x, _guidance(0.95)), AUX),
    "guidance_loss_on_aux_thr0.9": (lambda x: losses.segmentation_loss(x, _guidance(0.9)), AUX),
    "guidance_loss_on_aux_thr0.5": (lambda x: losses.segmentation_loss(x, _guidance(0.5)), AUX),
    # Its hard self-training is guidance of the main head by itself.
    "hard_pseudo_thr0.95": (lambda x: losses.segmentation_loss(x, _guidance(0.95, LOGITS, LOGITS)), LOGITS),
    "hard_pseudo_thr0.5": (lambda x: losses.segmentation_loss(x, _guidance(0.5, LOGITS, LOGITS)), LOGITS),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient(name: str, dtype: str) -> None:
    loss, logits = CASES[name]
    _check(
        loss,
        logits.to(DTYPES[dtype]),
        GOLDEN[f"{dtype}/{name}"],
        TOLERANCE[dtype],
        value_tolerance=2e-7 if name.startswith("bce") else None,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_image_weights_of_a_batch_are_each_images_own(dtype: str) -> None:
    """The published code mixes up the images of a batch; the reference figure is the mean over its single images."""
    golden = GOLDEN[f"{dtype}/IW_MaxSquareloss_batch19_mean_of_single"]
    # float32 powers of the class counts differ in the last bit between a batch and an image
    _check(
        _softmax(losses.image_weighted_max_square_loss), BATCH19.to(DTYPES[dtype]), golden, max(TOLERANCE[dtype], 1e-6)
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_self_information(dtype: str) -> None:
    information = losses.self_information(LOGITS.to(DTYPES[dtype]).softmax(1))
    golden = GOLDEN[f"{dtype}/prob_2_entropy"]
    _check_array(information, golden, TOLERANCE[dtype])
    assert float(information.sum(1).mean()) == pytest.approx(golden["pixel_entropy_mean"], rel=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["prob_2_entropy_sum_wrt_logits", "prob_2_entropy_biglogits"])
def test_gradient_through_self_information(name: str, dtype: str) -> None:
    logits = EXTREME if name.endswith("biglogits") else LOGITS
    golden = GOLDEN[f"{dtype}/{name}"]

    def sum_of_squares(x: Tensor) -> Tensor:
        return losses.self_information(torch.softmax(x, 1)).square().sum()

    _check(sum_of_squares, logits.to(DTYPES[dtype]), golden, TOLERANCE[dtype])


@pytest.mark.parametrize("threshold", [0.95, 0.9, 0.5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_guidance_labels(threshold: float, dtype: str) -> None:
    labels = _guidance(threshold, dtype=DTYPES[dtype])
    golden = GOLDEN[f"{dtype}/guidance_label_thr{threshold}"]
    assert labels.dtype == torch.uint8
    assert hashlib.sha256(labels.numpy().tobytes()).hexdigest() == golden["sha256_uint8_ign255"]
    assert int((labels != 255).sum()) == golden["valid"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("domain", [0, 1])
def test_adversarial_gradient_reaches_the_segmenter(domain: int, dtype: str) -> None:
    discriminator = det.fill(Discriminator(19), "d_main.").to(DTYPES[dtype])
    logits = _logits(8, 1, 19, 97, 193, 3).to(DTYPES[dtype])
    golden = GOLDEN[f"{dtype}/adv_softmax_label{domain}"]
    _check(
        _softmax(lambda p: losses.domain_loss(discriminator(p), domain)),
        logits,
        golden,
        TOLERANCE[dtype],
        value_tolerance=2e-7,
    )


def _check(
    loss: Callable[[Tensor], Tensor],
    logits: Tensor,
    golden: dict,
    tolerance: float,
    value_tolerance: float | None = None,
) -> None:
    logits = logits.clone().requires_grad_()
    value = loss(logits)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.dtype == logits.dtype and value.ndim == 0
    assert value.item() == pytest.approx(golden["value"], rel=value_tolerance or tolerance)
    _check_array(gradient, golden["grad0"], tolerance)


def _check_array(array: Tensor, golden: dict, tolerance: float) -> None:
    figures = det.stats(array)
    largest = max(abs(golden["min"]), abs(golden["max"]))
    assert figures["n"] == golden["n"]
    for name in ("abs", "l2"):
        assert figures[name] == pytest.approx(golden[name], rel=tolerance), name
    for name in ("min", "max"):
        assert figures[name] == pytest.approx(golden[name], abs=tolerance * largest), name
    for name in ("sum", "dot"):  # differences of large sums
        assert figures[name] == pytest.approx(golden[name], abs=tolerance * golden["abs"]), name
    picked = array.detach().reshape(-1)[torch.from_numpy(det.sample_indices(array.numel(), len(golden["samples"])))]
    assert picked.double().numpy() == pytest.approx(np.array(golden["samples"]), abs=tolerance * largest)
