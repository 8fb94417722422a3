"""Results that are read one step late, as on a GPU, leave the same weights and state as results that are
waited for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from esl_dist.config.schema import GuardConfig
from esl_dist.engine.optim import Adam, Poly, Recipe, Sgd
from esl_dist.engine.step import Losses, Pair
from esl_dist.engine.update import Updater
from esl_dist.errors import RunFailure
from esl_dist.models import DeepLabV2

STEPS = 6


class Given:
    """A stage with an SGD and an Adam network whose gradients are a function of the step, not finite in some."""

    needs_target = False

    def __init__(self, broken: Sequence[int]) -> None:
        torch.manual_seed(0)
        self.nets = {"segmenter": DeepLabV2(3, layers=(1, 1, 1, 1), width=4), "d_main": nn.Linear(3, 2)}
        self.broken, self.index = broken, 0

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return self.nets

    def step(self, micro: Sequence[Pair]) -> Losses:
        stream = torch.Generator().manual_seed(self.index)
        for network in self.nets.values():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.randn(parameter.shape, generator=stream)
        if self.index in self.broken:
            self.nets["d_main"].weight.grad[0, 0] = float("nan")
        self.index += 1
        return {"loss": torch.zeros(())}


def updater(broken: Sequence[int], deferred: bool, guard: GuardConfig) -> Updater:
    recipe = Recipe({"segmenter": Sgd(2.5e-4), "d_main": Adam(1e-4)}, Poly(100))
    made = Updater(Given(broken), recipe, guard, torch.amp.GradScaler("cpu", enabled=False))
    assert not made.deferred, "nothing to gain on a CPU"
    made.deferred = deferred
    return made


def weights(made: Updater) -> Tensor:
    return torch.cat([t.flatten().double() for t in made.networks().state_dict().values()])


def moments(made: Updater) -> Tensor:
    states = [value for o in made.optimizers.values() for state in o.state.values() for value in state.values()]
    return torch.cat([value.flatten().double() for value in states])


@pytest.mark.parametrize("broken", [(), (3,), (0, 1), (STEPS - 1,), (2, 4)])
def test_refused_steps_change_nothing(broken: Sequence[int]) -> None:
    waited, late = (updater(broken, deferred, GuardConfig(non_finite="skip")) for deferred in (False, True))
    verdicts = []
    for step in range(STEPS):
        waited.step(step, [])
        verdicts.append(late.step(step, [])[1].taken)
        assert torch.equal(weights(waited), weights(late)), "the device knows at once what the host reads later"
    verdicts.append(late.settle().taken)
    assert verdicts.count(False) == len(broken)
    assert torch.equal(moments(waited), moments(late)) and waited.skipped_in_a_row == late.skipped_in_a_row


def test_an_error_finds_the_state_of_its_step() -> None:
    late = updater((3,), True, GuardConfig())
    for step in range(4):
        late.step(step, [])
    before = weights(late)
    with pytest.raises(RunFailure, match="step 3: a gradient is not finite"):
        late.step(4, [])
    assert torch.equal(weights(late), before)


def test_a_wish_to_stop_arrives_a_step_later_or_when_asked_for() -> None:
    late = updater((), True, GuardConfig())
    late.step(0, [])  # waits: there is no momentum yet
    assert not late.step(1, [], stop=True)[1].stop
    assert late.step(2, [])[1].stop
    late.step(3, [], stop=True)
    assert late.settle().stop and not late.settle().stop
