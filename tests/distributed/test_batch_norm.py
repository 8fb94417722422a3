"""Batch norm over two ranks is batch norm over their images together."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esl_dist.distributed import collectives
from esl_dist.distributed.batch_norm import GlobalBatchNorm, synchronise
from tests.ranks import run_ranks

SHARES = (3, 1)
"""Images of the two ranks: they need not be equally many."""


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.01), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2)
    ).double()


def images() -> torch.Tensor:
    return torch.randn(sum(SHARES), 3, 9, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 + 5


def trained(model: nn.Module, x: torch.Tensor) -> dict[str, list[float]]:
    """Outputs, gradients summed over the ranks, and buffers after two steps."""
    for _ in range(2):
        model.zero_grad()
        out = model(x)
        (out.square() * torch.linspace(0, 1, 7)[:, None]).sum().backward()
    gradients = {name: collectives.all_reduce_(p.grad.clone()) for name, p in model.named_parameters()}
    return {name: value.flatten().tolist() for name, value in {**gradients, **dict(model.named_buffers())}.items()}


def of_rank() -> dict[str, list[float]]:
    first = collectives.rank() * SHARES[0]
    part = images()[first : first + SHARES[collectives.rank()]]
    return trained(synchronise(network(), cuda=False).train(), part)


def test_two_ranks_are_one() -> None:
    expected = trained(network().train(), images())
    first, second = run_ranks(2, "tests.distributed.test_batch_norm:of_rank")
    assert first == second, "every rank has the same statistics and, after the all-reduce, the same gradients"
    assert first.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(torch.tensor(first[name]), torch.tensor(value), rtol=1e-9, atol=1e-9)


def test_alone_and_in_eval_it_is_torchs_own() -> None:
    plain, ours = network(), synchronise(network(), cuda=False)
    assert isinstance(ours[1], GlobalBatchNorm) and ours.state_dict().keys() == plain.state_dict().keys()
    for mode in (True, False):
        assert torch.equal(plain.train(mode)(images()), ours.train(mode)(images()))
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), ours.buffers(), strict=True))


def test_only_two_dimensional_norms_are_known() -> None:
    with pytest.raises(AssertionError, match="BatchNorm1d"):
        synchronise(nn.Sequential(nn.BatchNorm1d(3)), cuda=False)
