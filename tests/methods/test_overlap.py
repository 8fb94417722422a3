"""Source and target passes at a time: the bits of the serial step, batch norms in its order, ``.grad`` touched in its
order.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from esl_dist.benchmarks.common import RECORDS
from esl_dist.benchmarks.step import OwnStep, default_config, generated
from esl_dist.config.schema import AlignConfig
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.lanes import CudaStreams, Lanes
from esl_dist.distributed.runtime import Runtime
from esl_dist.methods.adaptation import build
from esl_dist.methods.adaptation.objectives import build_objective
from esl_dist.methods.adaptation.step import Adaptation
from esl_dist.methods.kit import Kit
from esl_dist.methods.passes import Passes
from esl_dist.models import DeepLabV2, Discriminator
from tests.methods.teacher import made
from tests.methods.teacher.test_parity_ddp import count_reductions
from tests.ranks import run_ranks

WORDS = [
    "model.deeplabv2.layers=[1,1,1,1]",
    "model.deeplabv2.width=4",
    "model.discriminator_width=4",
    "data.source.size=[64,48]",
    "data.target.size=[64,32]",
    "run.threads=1",
]


class Recorded:
    """Streams of a CPU: everything is done when it is asked for, and remembered."""

    def __init__(self) -> None:
        self.inside, self.said = "first", [("", "")]

    def fork(self) -> None:
        self.said.append((self.inside, "fork"))

    @contextlib.contextmanager
    def second(self) -> Iterator[None]:
        self.inside = "second"
        yield
        self.inside = "first"

    def join(self) -> None:
        self.said.append((self.inside, "join"))

    def mark(self, place: nn.Module) -> None:
        self.said.append((self.inside, f"mark {id(place)}"))

    def wait(self, place: nn.Module) -> None:
        assert ("first", f"mark {id(place)}") in self.said[self.last("fork") :], "it waits for what was marked before"
        self.said.append((self.inside, f"wait {id(place)}"))

    def last(self, word: str) -> int:
        return max(i for i, (_, said) in enumerate(self.said) if said == word)


def aligned(lanes: Lanes | None) -> Adaptation:
    """ADVENT with two heads on this process's ranks; of one rank both discriminators share a pass."""
    torch.manual_seed(0)
    here = made.runtime()
    network = DeepLabV2(made.CLASSES, layers=(1, 1, 1, 1), width=8).train()
    discriminators = {head: ddp.wrap(Discriminator(made.CLASSES, 8), here) for head in ("main", "aux")}
    align = AlignConfig("advent", weight=0.5, weight_aux=0.2)
    objective = build_objective("advent", align, True, discriminators, joint=here.world == 1)
    return Adaptation(ddp.wrap(network, here), Passes(here), made.CLASSES, objective, 0.1, lanes=lanes)


def on_a_rank() -> list[Any]:
    """Losses, every gradient and running statistic of three steps of two micro-batches, and how many all-reduces each
    network had: serial, then at a time.
    """
    found: list[Any] = []
    rank, ranks = collectives.rank(), collectives.world()
    for streams in (None, Recorded()):
        step = aligned(Lanes(streams) if streams else None)
        reduced = {name: count_reductions(network) for name, network in step.networks.items()}
        told = []
        for number in range(3):
            for network in step.networks.values():
                network.zero_grad(set_to_none=True)
            own = [[2 * ranks * (2 * number + i) + 2 * rank + j for j in range(2)] for i in range(2)]
            losses = step.step([made.pair([7 * index for index in images], 0, 0) for images in own])
            tensors = [p.grad for network in step.networks.values() for p in network.parameters()]
            tensors += [buffer for buffer in step.segmenter.buffers() if buffer.is_floating_point()]
            sums = [hashlib.sha256(t.numpy().tobytes()).hexdigest() for t in tensors if t is not None]
            told.append([{name: float(value) for name, value in losses.items()}, sums])
        found.append([told, {name: len(counted) for name, counted in reduced.items()}])
    return found


def test_several_ranks_have_the_bits_of_one_pass_after_the_other_and_reduce_once() -> None:
    for serial, at_a_time in run_ranks(2, f"{__name__}:on_a_rank"):
        assert serial == at_a_time
        assert serial[1] == dict.fromkeys(("segmenter", "d_main", "d_aux"), 3), "one all-reduce a network and step"
        assert len(serial[0][0][1]) > 60


def test_a_pass_that_does_not_reach_a_parameter_leaves_its_gradient() -> None:
    network = nn.Linear(2, 1)
    network.weight.grad = torch.ones(1, 2)
    ddp.add_gradients(network, list(network.parameters()), [torch.full((1, 2), 2.0), None])
    assert network.weight.grad.tolist() == [[3.0, 3.0]] and network.bias.grad is None
    ddp.add_gradients(network, list(network.parameters()), [None, torch.ones(1)])
    assert network.weight.grad.tolist() == [[3.0, 3.0]] and network.bias.grad.tolist() == [1.0]


def trained(
    stage: str, streams: Recorded | None, *words: str, micro: int = 1
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """Losses of three steps of ``micro`` micro-batches, and every network's tensors after them."""
    config = default_config([*WORDS, *words, "run.device=cpu"])
    with Runtime.start(config.run, RECORDS) as runtime:
        own = OwnStep(stage, config, runtime, generated(config, 1, stage == "selftrain"))
        assert isinstance(own.stage, Adaptation)
        own.stage.lanes = Lanes(streams) if streams else None
        found = [own.updater.step(index, [own.pair() for _ in range(micro)])[0] for index in range(3)]
        losses = [{name: float(value) for name, value in step.items()} for step in found]
        return losses, {name: value.clone() for name, value in own.updater.networks().state_dict().items()}


@pytest.mark.parametrize(("stage", "micro"), [("align", 1), ("selftrain", 2)])
def test_at_a_time_has_the_bits_of_one_after_the_other(stage: str, micro: int) -> None:
    streams = Recorded()
    (losses, ours), (expected, theirs) = trained(stage, streams, micro=micro), trained(stage, None, micro=micro)
    assert losses == expected and ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    marks = [said for lane, said in streams.said if said.startswith("mark")]
    waits = [said for lane, said in streams.said if said.startswith("wait")]
    assert len(marks) == len(waits) and {said[5:] for said in marks} == {said[5:] for said in waits}
    assert {lane for lane, said in streams.said if said.startswith("mark")} == {"first"}
    assert {lane for lane, said in streams.said if said.startswith("wait")} == {"second"}
    assert (
        sum(said == "join" for _, said in streams.said) == sum(said == "fork" for _, said in streams.said) == 3 * micro
    )


def test_the_control_and_one_network_keep_one_lane() -> None:
    streams = Recorded()
    losses, _ = trained("align", streams, "align.objective=bn")
    assert streams.said == [("", "")] and losses == trained("align", None, "align.objective=bn")[0]


def test_what_stands_against_it_is_said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    runtime = Runtime(0, 1, 0, 1, torch.device("cuda", 0), "fp32", 1, 1, True, 100)
    kit = Kit(default_config([*WORDS, "run.overlap=true"]), runtime, torch.amp.GradScaler("cpu", enabled=False))
    with caplog.at_level(logging.INFO, "esl_dist"):
        assert isinstance(build._lanes(kit, None), Lanes) and not caplog.messages
        assert build._lanes(replace(kit, config=default_config(WORDS)), None) is None and not caplog.messages
        assert build._lanes(replace(kit, runtime=replace(runtime, device=torch.device("cpu"))), None) is None
        assert isinstance(build._lanes(replace(kit, runtime=replace(runtime, world=2)), None), Lanes)
    assert len(caplog.messages) == 1 and "no GPU" in caplog.messages[0]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_on_a_gpu_two_streams_have_the_bits_of_one() -> None:
    def on_the_gpu(overlap: bool) -> dict[str, Tensor]:
        config = default_config([*WORDS, f"run.overlap={overlap}"])
        with Runtime.start(config.run, RECORDS) as runtime, runtime.training.applied():
            own = OwnStep("align", config, runtime, generated(config, 1, False))
            assert isinstance(own.stage, Adaptation) and (own.stage.lanes is not None) is overlap
            for index in range(8):
                own.step(index)
            return {name: value.cpu() for name, value in own.updater.networks().state_dict().items()}

    ours, theirs = on_the_gpu(True), on_the_gpu(False)
    assert isinstance(CudaStreams(torch.device("cuda", 0)), CudaStreams)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
