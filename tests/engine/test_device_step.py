"""A step that the device takes alone has the bits of one that the host waits for, eagerly and replayed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from esl_dist.config.schema import GuardConfig, RunConfig
from esl_dist.data.loader import Batch
from esl_dist.distributed import capture
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.optim import Adam, Average, Poly, Recipe
from esl_dist.engine.step import Losses, Pair
from esl_dist.engine.update import Updater
from esl_dist.errors import RunFailure

STEPS = 9


class Toy:
    """A linear network with batch norm; gradients are a function of the batch alone."""

    needs_target = False
    host_work = ""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"segmenter": self.network}

    def step(self, micro: Sequence[Pair]) -> Losses:
        losses: Losses = {}
        for pair in micro:
            loss = self.network(pair.source.images).square().mean()
            loss.backward()
            losses["loss"] = loss.detach()
        return losses


class Replayed:
    """A graph that calls its work again, into the same results."""

    def __init__(self) -> None:
        self.replays = 0

    def capture(self, work: Callable[[], capture.Outcome]) -> tuple[Callable[[], None], capture.Outcome]:
        outcome = {"loss": torch.zeros(()), "agreement/flags": torch.zeros(3, dtype=torch.int64)}

        def replay() -> None:
            self.replays += 1
            for name, value in work().items():
                outcome[name].copy_(value)

        return replay, outcome


def batch(step: int, broken: Sequence[int]) -> list[Pair]:
    images = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
    if step in broken:
        images[0, 0] = float("nan")
    return [Pair(Batch(images, None, torch.arange(5), ()), None)]


def updater(deferred: bool, non_finite: str = "skip", graphs: Replayed | None = None) -> Updater:
    recipe = Recipe({"segmenter": Adam(1e-2)}, Poly(100), {"segmenter": 0.5}, Average(0.9))
    guard = replace(GuardConfig(), non_finite=non_finite)
    made = Updater(Toy(), recipe, guard, torch.amp.GradScaler("cpu", enabled=False), capture_as="toy" if graphs else "")
    made.deferred = deferred
    if made.device_step.captured and graphs:
        made.device_step.captured._graphs = graphs
    return made


def tensors(made: Updater) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in made.networks().state_dict().items()}


@pytest.mark.parametrize("broken", [(), (4,), (2, 6, 7), (STEPS - 1,)])
def test_captured_eager_and_waited_for_are_one(broken: Sequence[int]) -> None:
    graphs = Replayed()
    waited, late, captured = updater(False), updater(True), updater(True, graphs=graphs)
    for step in range(STEPS):
        found = [made.step(step, batch(step, broken))[0]["loss"] for made in (waited, late, captured)]
        assert torch.equal(found[1], found[2]) or step in broken
    assert [made.settle().taken for made in (late, captured)] == [STEPS - 1 not in broken] * 2
    assert graphs.replays == STEPS - 4 and captured.device_step.captured is not None
    assert not captured.device_step.captured.refused
    one, two, three = (tensors(made) for made in (waited, late, captured))
    for name, value in two.items():
        assert torch.allclose(value.double(), three[name].double(), rtol=0, atol=0, equal_nan=True), name
        # batch norm's statistics take in a broken batch in every case; the average is rounded once more
        if name.startswith("student") and not broken:
            assert torch.equal(value, one[name]), name
        assert torch.allclose(value.double(), one[name].double(), rtol=1e-5, atol=1e-6, equal_nan=True), name


def test_no_step_is_taken_after_one_that_ends_the_training() -> None:
    late = updater(True, "stop")
    for step in range(4):
        late.step(step, batch(step, (3,)))
    before = {name: value for name, value in tensors(late).items() if "0." in name}
    with pytest.raises(RunFailure, match="step 3: a gradient is not finite"):
        late.step(4, batch(4, ()))
    assert all(torch.equal(value, tensors(late)[name]) for name, value in before.items())


def test_a_checkpoint_sees_rates_that_are_numbers() -> None:
    late = updater(True)
    for step in range(3):
        late.step(step, batch(step, ()))
    groups = late.state()["optimizers"]["segmenter"]["param_groups"]
    assert groups[0]["lr"] == pytest.approx(1e-2 * 0.98**0.9) and isinstance(groups[0]["lr"], float)
    assert groups[0]["capturable"] is False


def test_what_keeps_a_step_from_being_captured_is_said() -> None:
    runtime = Runtime(0, 1, 0, 1, torch.device("cuda", 0), "bf16", 1, 1, True, 100)
    drawn = Toy()
    drawn.host_work = "pixels are drawn on the host"
    assert capture.obstacle("auto", runtime, Toy()) == ""
    assert capture.obstacle("off", runtime, Toy()) == "run.capture=off"
    assert capture.obstacle("on", replace(runtime, device=torch.device("cpu")), Toy()) == "there is no GPU"
    assert capture.obstacle("on", runtime, drawn) == "pixels are drawn on the host"
    assert "does not say" in capture.obstacle("on", runtime, object())
    assert "fp16" in capture.obstacle("on", replace(runtime, precision="fp16"), Toy())
    assert "several ranks" in capture.obstacle("auto", replace(runtime, world=2), Toy())
    assert capture.obstacle("on", replace(runtime, world=2), Toy()) == ""
    assert RunConfig().capture == "auto"
