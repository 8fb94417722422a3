"""On a GPU: no step of any method makes the host wait, eager or captured, and a captured one has the bits of the eager
one.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from esl_dist.benchmarks.common import RECORDS
from esl_dist.benchmarks.step import OwnStep, default_config, generated
from esl_dist.distributed.capture import own_stream
from esl_dist.distributed.runtime import Runtime

WORDS = (
    *("model.deeplabv2.layers=[1,1,1,1]", "model.deeplabv2.width=16", "model.discriminator_width=16"),
    *("data.source.size=[128,64]", "data.target.size=[128,64]", "teacher.optim.name=sgd"),
)
STEPS, WARM = 12, 6
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@contextmanager
def no_waits() -> Iterator[None]:
    """Inside, whatever makes the host wait for the device is an error."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says once that the mode is a prototype
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def trained(stage: str, *words: str) -> dict[str, Tensor]:
    """Every network's tensors after some steps, the last of which must not wait."""
    config = default_config([*WORDS, *words])
    on = config.run.capture != "off"
    with Runtime.start(config.run, RECORDS) as runtime, own_stream(runtime.device, on), runtime.training.applied():
        own = OwnStep(stage, config, runtime, generated(config, 1, stage == "selftrain"))
        captured = own.updater.device_step.captured
        assert (captured is not None) is on
        for index in range(WARM):
            own.step(index)
        for index in range(WARM, STEPS):
            pair = own.pair()
            with no_waits():
                own.updater.step(index, [pair])
        own.updater.settle()
        assert captured is None or not captured.refused, captured.refused
        return {name: value.cpu() for name, value in own.updater.networks().state_dict().items()}


CLOSE = ("model.name=daformer", "model.hrda=true", "model.daformer.encoder=tiny")
"""A network that drops paths and looks closely somewhere."""


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        *((stage, ()) for stage in ("source", "align", "selftrain", "daformer", "mic:esl")),
        ("hrda", CLOSE),
    ],
)
def test_on_a_gpu_no_step_waits_and_captured_ones_have_their_bits(stage: str, words: tuple[str, ...]) -> None:
    eager = trained(stage, "run.capture=off", "run.kernels=[]", *words)
    graphed = trained(stage, "run.capture=on", "run.kernels=[]", *words)
    assert all(torch.equal(graphed[name], value) for name, value in eager.items())


@pytest.mark.parametrize("words", [("run.kernels=[norm,heads,losses]",), ("mmdl.weight=0.1", "mmdl.align_weight=1")])
def test_on_a_gpu_kernels_and_the_second_head_do_not_wait(words: tuple[str, ...]) -> None:
    trained("align", "run.capture=on", *words)
