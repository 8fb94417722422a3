"""``run.join_discriminators``: both heads' discriminators as one network of two groups learn what they learn apart."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from esl_dist.benchmarks.common import RECORDS
from esl_dist.benchmarks.step import OwnStep, default_config, generated
from esl_dist.distributed.runtime import Runtime
from esl_dist.methods.adaptation import build
from esl_dist.methods.kit import Kit
from esl_dist.models import Discriminator
from esl_dist.models.discriminator import together

WORDS = [
    "model.deeplabv2.layers=[1,1,1,1]",
    "model.deeplabv2.width=4",
    "model.discriminator_width=4",
    "data.source.size=[64,48]",
    "run.device=cpu",
    "run.threads=1",
]


def trained(joint: bool, target: str) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Losses of three steps, and every network's tensors after them."""
    config = default_config([*WORDS, f"data.target.size={target}", f"run.join_discriminators={joint}"])
    with Runtime.start(config.run, RECORDS) as runtime:
        own = OwnStep("align", config, runtime, generated(config, 2, False))
        losses = [{name: float(value) for name, value in own.step(index).items()} for index in range(3)]
        return losses, {name: value.clone() for name, value in own.updater.networks().state_dict().items()}


@pytest.mark.parametrize("target", ["[64,48]", "[64,32]"])
def test_together_they_learn_what_they_learn_apart(target: str) -> None:
    (joint, ours), (apart, theirs) = trained(True, target), trained(False, target)
    assert ours.keys() == theirs.keys() and any(name.startswith("d_aux.") for name in ours)
    for one, other in zip(joint, apart, strict=True):
        assert one.keys() == other.keys() and one == pytest.approx(other, rel=1e-6)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_groups_are_the_networks_themselves() -> None:
    torch.manual_seed(0)
    networks = [Discriminator(5, 4).double() for _ in range(2)]
    maps = [torch.randn(2, 5, 64, 96, dtype=torch.float64, requires_grad=True) for _ in networks]
    found = together(networks, maps)
    for network, own, said in zip(networks, maps, found, strict=True):
        expected = network(own)
        torch.testing.assert_close(said, expected, rtol=1e-12, atol=1e-12)
        wanted = (own, *network.parameters())
        for a, b in zip(
            torch.autograd.grad(said.sum(), wanted, retain_graph=True),
            torch.autograd.grad(expected.sum(), wanted),
            strict=True,
        ):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_several_ranks_keep_them_apart_and_say_so(caplog: pytest.LogCaptureFixture) -> None:
    config = default_config([*WORDS, "run.join_discriminators=true"])
    runtime = Runtime(0, 2, 0, 2, torch.device("cpu"), "fp32", 1, 1, True, 100)
    kit = Kit(config, runtime, torch.amp.GradScaler("cpu", enabled=False))
    with caplog.at_level(logging.INFO, "esl_dist"):
        assert not build._joint(kit) and build._joint(replace(kit, runtime=replace(runtime, world=1)))
    assert len(caplog.messages) == 1 and "run.join_discriminators" in caplog.messages[0]
