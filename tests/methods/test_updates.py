"""What happens to the weights after the gradients: repeated updates as published, and their average over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from esl_dist.config.schema import GuardConfig
from esl_dist.engine.ema import Ema
from esl_dist.engine.optim import Adam, Average, Poly, Recipe, Sgd
from esl_dist.engine.published_sgd import PublishedSGD
from esl_dist.engine.step import Losses, Pair
from esl_dist.engine.update import Updater
from esl_dist.models import DeepLabV2
from esl_dist.models.deeplabv2 import published_multiplicity


def published_by_entry(
    entries: Sequence[tuple[str, float]],
    weights: dict[str, Tensor],
    grads: dict[str, Tensor],
    momenta: dict[str, Tensor],
    decay: float,
) -> None:
    """The optimiser of the authors' torch written out: one update per entry of the list, weight decay left in the
    gradient.
    """
    for name, rate in entries:
        grads[name] += decay * weights[name]
        momenta[name] = 0.9 * momenta[name] + grads[name]
        weights[name] = weights[name] - rate * momenta[name]


def test_published_updates_equal_a_loop_over_the_published_list() -> None:
    torch.manual_seed(0)
    network = DeepLabV2(5, layers=(1, 2, 1, 1), width=4).double()
    optimizer = Sgd(0.01, updates="published").build(network)
    assert isinstance(optimizer, PublishedSGD)
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    # As the public code walks the network: heads at ten times the rate, every backbone tensor once per enclosing
    # module.
    entries = [
        (name, 0.1 if name.startswith(("layer5.", "layer6.")) else 0.01)
        for name in parameters
        for _ in range(published_multiplicity(name))
    ]
    assert {len([e for e in entries if e[0] == name]) for name in parameters} == {1, 3, 4}
    weights, momenta = (
        {name: make(p.detach()) for name, p in parameters.items()} for make in (torch.clone, torch.zeros_like)
    )
    for step in range(3):
        grads = {
            name: torch.randn(p.shape, generator=torch.Generator().manual_seed(step), dtype=p.dtype)
            for name, p in parameters.items()
        }
        for name, parameter in parameters.items():
            parameter.grad = grads[name].clone()
        optimizer.step()
        published_by_entry(entries, weights, grads, momenta, Sgd(0.01).weight_decay)
    for name, parameter in parameters.items():
        assert float((parameter - weights[name]).detach().abs().max()) < 1e-14, name


class Toy:
    """A stage whose gradients the test gives."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.segmenter = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.scale = 1.0

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"segmenter": self.segmenter}

    needs_target = False

    def step(self, micro: Sequence[Pair]) -> Losses:
        loss = self.scale * self.segmenter(torch.randn(5, 3)).square().mean()
        loss.backward()
        return {"loss": loss.detach()}


def updater(stage: Toy, decay: float) -> Updater:
    recipe = Recipe({"segmenter": Adam(0.1)}, Poly(100), average=Average(decay) if decay else None)
    return Updater(stage, recipe, GuardConfig(non_finite="skip"), torch.amp.GradScaler("cpu", enabled=False))


def floats(network: nn.Module) -> Tensor:
    return torch.cat([t.flatten() for t in network.state_dict().values() if t.is_floating_point()])


def test_the_average_follows_its_formula_weights_and_statistics() -> None:
    stage = Toy()
    made = updater(stage, 0.75)
    expected, taken = torch.zeros(()), []
    for step in range(8):
        made.step(step, [])
        taken.append(floats(stage.segmenter))
        decay = min(0.75, step / (step + 1))
        expected = decay * expected + (1 - decay) * taken[-1]
        if step == 3:  # decay has not come into effect yet: the plain mean
            assert torch.allclose(expected, torch.stack(taken).mean(0), atol=1e-6)
    networks = made.networks()
    assert torch.allclose(floats(networks["segmenter"]), expected, atol=1e-6)
    assert torch.equal(floats(networks["student"]), taken[-1]) and not torch.allclose(expected, taken[-1], atol=1e-3)
    assert int(networks["segmenter"][1].num_batches_tracked) == 8
    assert not any(p.requires_grad for p in networks["segmenter"].parameters())


def test_a_refused_step_moves_no_average() -> None:
    stage = Toy()
    made = updater(stage, 0.5)
    made.step(0, [])
    before = floats(made.networks()["segmenter"])
    stage.scale = float("nan")
    _, status = made.step(1, [])
    assert not status.taken and torch.equal(floats(made.networks()["segmenter"]), before)


def test_without_an_average_the_trained_network_is_the_result() -> None:
    stage = Toy()
    made = updater(stage, 0.0)
    assert (
        made.ema is None and list(made.networks()) == ["segmenter"] and made.networks()["segmenter"] is stage.segmenter
    )


def test_an_average_needs_a_decay_between_0_and_1() -> None:
    with pytest.raises(AssertionError):
        Ema(nn.Linear(1, 1), 1.0)


def test_a_warm_up_raises_the_rate_of_every_group() -> None:
    recipe = Recipe({"segmenter": Adam(0.1)}, Poly(8, power=1.0, warmup=4))
    made = Updater(Toy(), recipe, GuardConfig(), torch.amp.GradScaler("cpu", enabled=False))
    rates = []
    for step in range(6):
        made.step(step, [])
        rates.append(made.optimizers["segmenter"].param_groups[0]["lr"])
    assert rates == pytest.approx(
        [0.1 * (step + 1) / 4 * (1 - step / 8) for step in range(4)] + [0.1 * (1 - 4 / 8), 0.1 * (1 - 5 / 8)]
    )
