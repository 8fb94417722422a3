"""What ranks agree on: the step at which they stop, a step that nobody takes, the rank whose weights drifted."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from esl_dist.config.schema import GuardConfig
from esl_dist.distributed import collectives
from esl_dist.engine.checkpoint import Writer, weights_sha256
from esl_dist.engine.guards import StopFlag, compare_replicas, weights_checksum
from esl_dist.engine.optim import Adam, Poly, Recipe
from esl_dist.engine.update import Updater
from tests.engine import sample
from tests.ranks import run_ranks

HERE = "tests.engine.test_guards_ranks"


@dataclass
class TinyStage:
    """A linear network whose gradient is ``value``; at ``bad_step`` one rank's is not a number."""

    bad_step: int = -1
    bad_rank: int = 0
    value: float = 1.0
    steps: int = 0
    network: nn.Linear = field(default_factory=lambda: nn.Linear(4, 2, bias=False))
    needs_target: bool = False

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"d_main": self.network}

    def step(self, micro: Sequence[Any]) -> dict[str, torch.Tensor]:
        self.network.weight.grad = torch.full_like(self.network.weight, self.value)
        if self.steps == self.bad_step and collectives.rank() == self.bad_rank:
            self.network.weight.grad[1, 3] = float("nan")
        self.steps += 1
        return {"loss": self.network.weight.grad.sum()}


def updater(stage: TinyStage, mode: str = "stop", max_skips: int = 2) -> Updater:
    torch.manual_seed(0)
    nn.init.normal_(stage.network.weight)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    guard = GuardConfig(non_finite=mode, max_skips=max_skips)  # type: ignore[arg-type]
    return Updater(stage, Recipe({"d_main": Adam(1e-4)}, Poly(100)), guard, scaler)


def stop_together(signalled: list[int]) -> list[int]:
    """Signal the ranks in ``signalled`` after step 3; every rank returns the step at which it left."""
    trained = updater(TinyStage())
    with StopFlag() as stop:
        for step in range(50):
            _, status = trained.step(step, [], stop.local)
            if status.stop:
                return [step, int(stop.local)]
            if step == 3 and collectives.rank() in signalled:
                os.kill(os.getpid(), signal.SIGTERM)
    return [-1, 0]


def refuse_together(mode: str) -> list[Any]:
    """Rank 1 meets a NaN at step 2: which steps were taken, what was said, whether a refused step changed anything."""
    stage = TinyStage(bad_step=2, bad_rank=1)
    trained = updater(stage, mode)
    adam = trained.optimizers["d_main"]
    taken: list[bool] = []
    message, unchanged = "", True
    for step in range(4):
        before = Writer.snapshot([stage.network.state_dict(), adam.state_dict()["state"]])
        try:
            taken.append(trained.step(step, [])[1].taken)
        except RuntimeError as error:
            message = str(error)
        if message or not taken[-1]:
            unchanged &= sample.equal(before, [dict(stage.network.state_dict()), adam.state_dict()["state"]])
        if message:
            break
    return [taken, message, unchanged, weights_sha256(stage.network.state_dict())]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)).to(
        memory_format=torch.channels_last
    )


def drift(rank: int, parameter: str) -> list[int]:
    made = network()
    if collectives.rank() == rank:
        made.get_buffer("1.running_mean").fill_(3.0)  # its own batches' statistics: no drift
        if parameter:
            bits = made.get_parameter(parameter).data.view(torch.int32)
            bits[(0,) * bits.dim()] ^= 1  # the lowest bit of one number
    return compare_replicas(made)


def on_a_rank() -> dict[str, Any]:
    """Everything that needs ranks, in one group: starting processes is what takes the time."""
    return {
        "signal to one": stop_together([1]),
        "signal to all": stop_together([0, 1, 2]),
        "nan, stop": refuse_together("stop"),
        "nan, skip": refuse_together("skip"),
        "drift of 1": drift(1, "0.weight"),
        "drift of 0": drift(0, "2.bias"),
        "no drift": drift(0, ""),
    }


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    return run_ranks(3, f"{HERE}:on_a_rank")


@pytest.mark.parametrize(("case", "signalled"), [("signal to one", [0, 1, 0]), ("signal to all", [1, 1, 1])])
def test_sigterm_stops_all_ranks_at_the_same_step(ranks: list[dict[str, Any]], case: str, signalled: list[int]) -> None:
    assert [rank[case] for rank in ranks] == [[4, got] for got in signalled]


def test_a_nan_on_one_rank_stops_all_with_the_state_unchanged(ranks: list[dict[str, Any]]) -> None:
    for taken, message, unchanged, _ in (rank["nan, stop"] for rank in ranks):
        assert taken == [True, True] and unchanged
        assert message.startswith("step 2: ") and "guard.non_finite=skip" in message and "\n" not in message


def test_a_nan_on_one_rank_is_skipped_by_all(ranks: list[dict[str, Any]]) -> None:
    first, *others = [rank["nan, skip"] for rank in ranks]
    assert first[:3] == [[True, True, False, True], "", True]
    assert others == [first, first]


def test_a_rank_that_drifts_by_one_bit_is_named_on_all(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert (rank["drift of 1"], rank["drift of 0"], rank["no drift"]) == ([1], [0], [])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_skipping_is_bounded(bad: float) -> None:
    trained = updater(TinyStage(value=bad), "skip", max_skips=2)
    assert [trained.step(step, [])[1].taken for step in (0, 1)] == [False, False]
    with pytest.raises(RuntimeError, match="3 steps in a row"):
        trained.step(2, [])


def test_the_checksum_is_the_same_for_the_same_bits_in_any_layout() -> None:
    a, b = network(), network().to(memory_format=torch.contiguous_format)
    assert torch.equal(weights_checksum(a), weights_checksum(b))
    with torch.no_grad():
        b[2].bias[0] *= -1
    assert (weights_checksum(a) != weights_checksum(b)).nonzero().flatten().tolist() == [5]
    assert weights_checksum(a.to(torch.bfloat16)).dtype == torch.int64
    assert compare_replicas(nn.ReLU()) == []


@pytest.mark.parametrize(("world", "drifted"), [(3, 2), (2, 1)])
def test_the_first_parameter_that_differs_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, world: int, drifted: int
) -> None:
    """Two ranks have no majority: then rank 0 is right."""

    def reduced(rows: torch.Tensor, op: str = "sum") -> torch.Tensor:
        others = rows[:1].repeat(world, 1)
        others[drifted, 1] += 1
        return others

    monkeypatch.setattr(collectives, "world", lambda: world)
    monkeypatch.setattr(collectives, "all_reduce_", reduced)
    with caplog.at_level(logging.ERROR):
        assert compare_replicas(network()) == [drifted]
    assert f"rank {drifted}: 1 of 6 parameters differ from the other ranks, first 0.bias" in caplog.text
