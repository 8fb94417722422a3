"""Source and target passes at a time: the bits of the serial step, batch norms in its order, ``.grad`` touched in its
order.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from esl_dist.benchmarks.common import RECORDS
from esl_dist.benchmarks.step import OwnStep, default_config, generated
from esl_dist.distributed.lanes import CudaStreams, Lanes
from esl_dist.distributed.runtime import Runtime
from esl_dist.methods.adaptation import build
from esl_dist.methods.adaptation.step import Adaptation
from esl_dist.methods.kit import Kit

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
        assert build._lanes(replace(kit, runtime=replace(runtime, world=2)), None) is None
    assert ["no GPU" in caplog.messages[0], "several ranks" in caplog.messages[1]] == [True, True]


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
