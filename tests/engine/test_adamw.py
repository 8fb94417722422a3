"""Rates of every group and at every step, against the published numbers."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import nn

from esl_dist.engine.adamw import AdamW, Warmed
from esl_dist.engine.optim import Poly, odd_rates


class Group(NamedTuple):
    parameters: tuple[tuple[str, nn.Parameter], ...]
    head: bool = False
    depth: int = 0


class Encoder(nn.Module):
    """A ViT-L's groups with one weight and one norm each: patch embedding, 24 blocks, head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleDict({"fc": nn.Linear(2, 2), "norm": nn.LayerNorm(2)}) for _ in range(26))

    def parameter_groups(self) -> list[Group]:
        named = [tuple((f"layers.{i}.{n}", p) for n, p in m.named_parameters()) for i, m in enumerate(self.layers)]
        return [*(Group(own, depth=24 - i) for i, own in enumerate(named[:25])), Group(named[25], head=True)]


def rate_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> tuple[float, float]:
    (group,) = [g for g in optimizer.param_groups if any(p is parameter for p in g["params"])]
    return group["lr"], group["weight_decay"]


def test_daformers_rates() -> None:
    network = Encoder()
    optimizer = AdamW(6e-5).build(network)
    layers = network.layers
    assert rate_of(optimizer, layers[0]["fc"].weight) == (6e-5, 0.01) == rate_of(optimizer, layers[24]["fc"].bias)
    assert rate_of(optimizer, layers[3]["norm"].weight) == (6e-5, 0.0)
    assert rate_of(optimizer, layers[25]["fc"].weight) == (pytest.approx(6e-4), 0.01)
    assert len({id(p) for g in optimizer.param_groups for p in g["params"]}) == len(list(network.parameters()))
    assert optimizer.defaults["betas"] == (0.9, 0.999) and optimizer.defaults["eps"] == 1e-8


def test_vfm_udas_rates_at_eight_images_a_step() -> None:
    network = Encoder()
    recipe = AdamW(5e-5 * 0.1 * 8**0.5, head_lr=10, no_decay=(), layer_decay=0.9)
    optimizer = recipe.build(network)
    found = [rate_of(optimizer, network.layers[i]["norm"].weight) for i in (25, 24, 1, 0)]
    expected = [1.4142e-4, 1.4142e-5, 1.4142e-5 * 0.9**23, 1.4142e-5 * 0.9**24]
    assert [rate for rate, _ in found] == pytest.approx(expected, rel=1e-4)
    assert {decay for _, decay in found} == {0.01}


def test_daformers_schedule() -> None:
    schedule = Warmed(40_000)
    found = [6e-5 * schedule(step) for step in (0, 750, 1500, 40_000)]
    assert found == pytest.approx([6e-11, 6e-5 * (1 - 750 / 40_000) * 0.5, 6e-5 * 0.9625, 0], rel=2e-6)


def test_vfm_udas_schedule_drops_where_the_warm_up_ends() -> None:
    schedule = Warmed(40_000, start=1e-3, together=False)
    assert [schedule(step) for step in (0, 1500, 20_000)] == pytest.approx([1e-3, 0.9625, 0.5])
    assert schedule(1499) == pytest.approx(1, abs=1e-3)
    assert Warmed(10, warmup=0)(0) == 1


def test_rates_that_are_never_there_are_said() -> None:
    assert odd_rates(Warmed(40_000), 40_000) == odd_rates(Poly(4), 4) == odd_rates(Poly(1), 1) == ""
    assert odd_rates(Poly(250_000), 120_000) == odd_rates(Poly(250_000, warmup=500), 1000) == ""
    assert odd_rates(Warmed(4), 4).startswith("its 4 steps end within the warm-up: learning rates come to 0.00067 of")
    assert odd_rates(Poly(2), 4).startswith("learning rates are 0 from about step 2 of 4 on")
    assert odd_rates(Poly(60_000), 120_000).startswith("learning rates are 0 from about step 60")
