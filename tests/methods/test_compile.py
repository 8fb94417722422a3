"""``run.compile``: the networks become graphs without a break, made in the first step and never again."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from esl_dist.benchmarks.common import RECORDS
from esl_dist.benchmarks.step import OwnStep, default_config, generated
from esl_dist.config.schema import RunConfig
from esl_dist.distributed.runtime import Runtime
from esl_dist.methods import networks as build
from esl_dist.models import Discriminator, build_segmenter

# A compiler looks at everything of a tensor, and at what torch warns of; as errors such warnings end its graphs.
pytestmark = pytest.mark.filterwarnings("default")

WORDS = [
    "model.deeplabv2.layers=[1,1,1,1]",
    "model.deeplabv2.width=4",
    "model.discriminator_width=4",
    "data.source.size=[64,48]",
    "data.target.size=[64,32]",
    "run.threads=1",
]


def steps(stage: str, number: int, compiled: bool, *words: str) -> tuple[list[dict[str, float]], list[int]]:
    """Losses of each step, and how many graphs dynamo has made after it."""
    torch._dynamo.reset()
    counters.clear()
    config = default_config([*WORDS, f"run.compile={compiled}", "run.device=cpu", *words])
    losses, graphs = [], []
    with Runtime.start(config.run, RECORDS) as runtime:
        own = OwnStep(stage, config, runtime, generated(config, 1, stage == "selftrain"))
        for index in range(number):
            losses.append({name: float(value) for name, value in own.step(index).items()})
            graphs.append(counters["stats"]["unique_graphs"])
    return losses, graphs


def test_no_graph_break_and_no_recompilation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BACKEND", "eager")  # what is counted is dynamo's, before any code is generated
    losses, graphs = steps("selftrain", 3, True)
    assert sum(counters["graph_break"].values()) == 0
    # Two sizes of image for the segmenter; for each discriminator a frozen pass, and the two halves of its own.
    assert 0 < graphs[0] <= 2 + 2 * 3 and graphs == [graphs[0]] * 3
    assert losses == steps("selftrain", 3, False)[0]


# Of a block's inputs dynamo asks for a gradient that they cannot have, and hides torch's remark itself.
@pytest.mark.filterwarnings(r"ignore:The \.grad attribute of a Tensor that is not a leaf:UserWarning")
def test_blocks_are_compiled_once_for_all_of_their_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BACKEND", "aot_eager")
    deeper = ("model.deeplabv2.layers=[3,1,1,4]",)
    blocks, plain = (steps("align", 3, False, *deeper, f"run.compile_blocks={given}") for given in (True, False))
    # Of nine bottlenecks six are built alike no other: the first of each layer, and the others of two; of two sizes.
    assert blocks[1] == [2 * 6] * 3 and plain[1] == [0] * 3
    for ours, theirs in zip(blocks[0], plain[0], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_what_a_block_is() -> None:
    network = build_segmenter(default_config([*WORDS, "model.deeplabv2.layers=[2,1,1,1]"]).model, 19, 0)
    assert [type(block).__name__ for block in build.blocks_of(network)] == ["Bottleneck"] * 5
    assert not build.blocks_of(Discriminator(19, 4))
    with pytest.raises(ValueError, match=r"run\.compile_blocks: run\.compile compiles"):
        RunConfig(compile=True, compile_blocks=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="generates C++")
@pytest.mark.parametrize("whole", [True, False])
def test_compiled_code_computes_the_same_step(whole: bool) -> None:
    compiled = steps("align", 2, whole, f"run.compile_blocks={not whole}")[0]
    plain = steps("align", 2, False)[0]
    for ours, theirs in zip(compiled, plain, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_machine_that_cannot_compile_says_so_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"run\.compile: needs a C\+\+ compiler"):
        Runtime.start(RunConfig(compile=True, device="cpu"), RECORDS)
