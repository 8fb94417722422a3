"""The losses of modes against their formulas written out pixel by pixel, and their gradients in double precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from esl_dist.losses import mmdl

N, S, D, C, K = 2, 7, 5, 4, 3
SIGMA, MARGIN = 0.4, 0.6
LABELS = torch.tensor([[0, 1, 2, 3, 0, 255, 1], [3, 3, 255, 2, 1, 0, 255]], dtype=torch.uint8)
VALID = 11


def unit(*shape: int, seed: int) -> Tensor:
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(made, dim=-1)


PIXELS, REPRESENTATIVES = unit(N, S, D, seed=1), unit(C, K, D, seed=2)
USAGE = torch.rand(C, K, generator=torch.Generator().manual_seed(3), dtype=torch.float64).softmax(-1)


def distances() -> Tensor:
    return mmdl.squared_distances(PIXELS, REPRESENTATIVES)


def labelled() -> list[tuple[int, int, int]]:
    return [(n, s, int(LABELS[n, s])) for n in range(N) for s in range(S) if LABELS[n, s] < C]


def test_distances() -> None:
    expected = (PIXELS[:, :, None, None] - REPRESENTATIVES).square().sum(-1)
    torch.testing.assert_close(distances(), expected, rtol=1e-12, atol=1e-14)


def test_the_metric_loss_by_hand() -> None:
    squared, entropy, hinge, balance = distances(), 0.0, 0.0, 0.0
    for n, s, y in labelled():
        likelihood = [max(math.exp(-float(squared[n, s, c, k]) / (2 * SIGMA**2)) for k in range(K)) for c in range(C)]
        entropy -= math.log(likelihood[y] / sum(likelihood))
        nearest = [min(math.sqrt(float(squared[n, s, c, k])) for k in range(K)) for c in range(C)]
        hinge += max(nearest[y] - min(d for c, d in enumerate(nearest) if c != y) + MARGIN, 0.0)
        weights = [math.exp(-float(squared[n, s, y, k]) / (2 * SIGMA**2)) for k in range(K)]
        balance += sum(K * float(USAGE[y, k]) * weights[k] / sum(weights) for k in range(K))
    assert len(labelled()) == VALID
    assert float(mmdl.mode_cross_entropy(squared, LABELS, SIGMA, VALID)) == pytest.approx(entropy / VALID, rel=1e-12)
    assert float(mmdl.mode_hinge(squared, LABELS, MARGIN, VALID)) == pytest.approx(hinge / VALID, rel=1e-12)
    assert float(mmdl.mode_balance(squared, LABELS, USAGE, SIGMA, VALID)) == pytest.approx(balance / VALID, rel=1e-12)


def test_a_pixel_belongs_to_the_nearest_mode_of_its_class_or_of_any() -> None:
    squared, own = distances(), mmdl.modes_of(distances(), LABELS)
    assert int((own == mmdl.NO_MODE).sum()) == N * S - VALID
    for n, s, y in labelled():
        assert int(own[n, s]) == y * K + min(range(K), key=lambda k: float(squared[n, s, y, k]))
    everywhere = mmdl.modes_of(squared, None)
    assert torch.equal(everywhere, squared.view(N, S, C * K).argmin(-1)) and not torch.equal(everywhere, own)


def pairs(target: Tensor, modes: Tensor, pool: Tensor, pool_modes: Tensor, same: bool) -> Tensor:
    """Mean squared distance of each target pixel to the pool's members of its mode (or of other modes), pair by pair;
    NaN without any.
    """
    found = torch.full(modes.shape, torch.nan, dtype=torch.float64)
    for i, mode in enumerate(modes.tolist()):
        partners = [p for p, m in zip(pool, pool_modes.tolist(), strict=True) if m >= 0 and (m == mode) == same]
        if mode >= 0 and partners:
            found[i] = torch.stack([(target[i] - p).square().sum() for p in partners]).mean()
    return found


def test_alignment_is_the_mean_over_all_pairs_of_a_mode() -> None:
    """Vectors of any length, so that no term cancels by accident."""
    target, pool = (
        1.7 * unit(9, D, seed=4),
        unit(20, D, seed=5) * torch.rand(20, 1, generator=torch.Generator().manual_seed(8), dtype=torch.float64),
    )
    modes = torch.tensor([0, 1, 2, 3, 4, 5, -1, 0, 11])
    pool_modes = torch.randint(-1, 5, (20,), generator=torch.Generator().manual_seed(6))
    moments = mmdl.mode_moments(pool, pool_modes, C * K)
    distance, partnered = mmdl.mode_alignment(target, modes, moments)
    expected = pairs(target, modes, pool, pool_modes, same=True)
    assert torch.equal(partnered, ~expected.isnan()) and partnered.any() and not partnered.all()
    torch.testing.assert_close(distance, expected.nan_to_num(0.0), rtol=1e-12, atol=1e-14)
    apart, _ = mmdl.mode_alignment(target, modes, mmdl.without(moments))
    between = pairs(target, modes, pool, pool_modes, same=False)
    torch.testing.assert_close(apart[partnered], between[partnered], rtol=1e-12, atol=1e-14)


def test_gradients() -> None:
    pixels, representatives = PIXELS.clone().requires_grad_(), REPRESENTATIVES.clone().requires_grad_()

    def metric(e: Tensor, r: Tensor) -> Tensor:
        squared = mmdl.squared_distances(e, r)
        entropy, hinge = (
            mmdl.mode_cross_entropy(squared, LABELS, SIGMA, VALID),
            mmdl.mode_hinge(squared, LABELS, MARGIN, VALID),
        )
        return torch.stack([entropy, hinge, mmdl.mode_balance(squared, LABELS, USAGE, SIGMA, VALID)])

    assert torch.autograd.gradcheck(metric, (pixels, representatives))
    modes = mmdl.modes_of(distances(), LABELS)
    pool = mmdl.mode_moments(PIXELS.flatten(0, 1).flip(0), modes.flatten().flip(0), C * K)
    assert torch.autograd.gradcheck(lambda e: mmdl.mode_alignment(e, modes, pool)[0], (pixels,))


def test_no_pixel_and_no_partner_give_zero_and_a_zero_gradient() -> None:
    pixels = PIXELS.clone().requires_grad_()
    nothing = torch.full_like(LABELS, 255)
    squared = mmdl.squared_distances(pixels, REPRESENTATIVES)
    empty = mmdl.mode_moments(PIXELS[0], torch.full((S,), -1), C * K)
    alignment, partnered = mmdl.mode_alignment(pixels, torch.zeros((N, S), dtype=torch.int64), empty)
    losses = [
        mmdl.mode_cross_entropy(squared, nothing, SIGMA, 1),
        mmdl.mode_hinge(squared, nothing, MARGIN, 1),
        mmdl.mode_balance(squared, nothing, USAGE, SIGMA, 1),
        alignment.sum(),
    ]
    torch.stack(losses).sum().backward()
    assert not partnered.any() and not torch.stack(losses).any()
    assert pixels.grad is not None and float(pixels.grad.abs().max()) == 0


def test_a_pixel_on_its_representative_has_a_finite_gradient() -> None:
    pixels = REPRESENTATIVES[:2, 0].clone()[None].requires_grad_()
    squared = mmdl.squared_distances(pixels, REPRESENTATIVES)
    mmdl.mode_hinge(squared, torch.tensor([[0, 1]], dtype=torch.uint8), 2.0, 1).backward()
    assert pixels.grad is not None and bool(pixels.grad.isfinite().all())


def test_half_precision_is_computed_in_float32() -> None:
    half, representatives = PIXELS.bfloat16(), REPRESENTATIVES.bfloat16()
    expected = mmdl.squared_distances(half.float(), representatives.float())
    moments = mmdl.mode_moments(half.float().flatten(0, 1), torch.arange(N * S) % 3, C * K)
    with torch.autocast("cpu", torch.bfloat16):
        computed = mmdl.squared_distances(half, representatives)
        found = mmdl.mode_moments(half.flatten(0, 1), torch.arange(N * S) % 3, C * K)
    assert computed.dtype == torch.float32
    torch.testing.assert_close(computed, expected, rtol=0, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(found, moments, strict=True))


def test_entropy_of_use() -> None:
    counts = torch.tensor([[5.0, 5.0, 5.0], [9.0, 0.0, 0.0], [4.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert mmdl.usage_entropy(counts).tolist() == pytest.approx(
        [1.0, 0.0, math.log(2) / math.log(3), math.nan], abs=1e-6, nan_ok=True
    )
    assert mmdl.usage_entropy(torch.tensor([[7.0]])).tolist() == [0.0]


def test_nothing_is_read_on_the_host() -> None:
    """On a device a read waits for it; meta tensors have no values, so any read fails here."""
    labels, usage = LABELS.to("meta"), USAGE.to("meta")
    squared = torch.empty(N, S, C, K, device="meta")
    mmdl.mode_cross_entropy(squared, labels, SIGMA, 1)
    mmdl.mode_hinge(squared, labels, MARGIN, 1)
    mmdl.mode_balance(squared, labels, usage, SIGMA, 1)
    mmdl.modes_of(squared, labels)
    mmdl.usage_entropy(usage)
