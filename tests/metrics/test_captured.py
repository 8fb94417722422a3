"""A forward that is replayed gives the logits of one that is run, for every shape and after new weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from esl_dist.distributed import capture
from esl_dist.distributed.runtime import Runtime
from esl_dist.metrics.inference import Predictor
from esl_dist.models import DeepLabV2


class Replayed:
    """A graph that calls its work again, into the same logits."""

    def __init__(self) -> None:
        self.captures = 0

    def capture(self, work: Callable[[], capture.Outcome]) -> tuple[Callable[[], None], capture.Outcome]:
        self.captures += 1
        outcome = {"logits": torch.empty_like(work()["logits"])}
        return lambda: void(outcome["logits"].copy_(work()["logits"])), outcome


def void(_: object) -> None:
    """Nothing comes back from a replay."""


def test_logits_are_those_of_the_forward_and_stay() -> None:
    torch.manual_seed(0)
    network = DeepLabV2(3, layers=(1, 1, 1, 1), width=4)
    runtime = Runtime(0, 1, 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)
    eager, captured = Predictor(network, runtime), Predictor(network, replace(runtime, captures=True))
    graphs = Replayed()
    assert eager._captured is None and captured._captured is not None
    captured._captured._graphs = graphs
    kept = []
    for number in range(8):
        size = (40, 56) if number % 2 else (48, 64)
        images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
        if number == 6:
            with torch.no_grad():
                network.conv1.weight.mul_(1.5)
        kept.append((eager(images), captured(images)))
    assert graphs.captures == 2 and not captured._captured.refused
    assert all(torch.equal(a, b) for a, b in kept)
