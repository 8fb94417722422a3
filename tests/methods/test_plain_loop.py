"""The package's step on two ranks beside the plain loop of the benchmark: the same losses, one gradient of each network
reduced, while backward runs.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from esl_dist.benchmarks.plain import PlainStep
from esl_dist.benchmarks.step import OwnStep, default_config, generated, stage_plan
from esl_dist.distributed import collectives
from esl_dist.distributed.runtime import Runtime
from tests.ranks import run_ranks

STEPS = 20
WORDS = [
    "model.deeplabv2.layers=[1,1,1,1]",
    "model.deeplabv2.width=8",
    "model.discriminator_width=8",
    "model.deeplabv2.init=kaiming",
    "data.mean=[104,108,112]",
    "data.scale=64",
]
WORDS += [
    "data.source.size=[64,48]",
    "data.target.size=[64,48]",
    "run.threads=1",
    "run.device=cpu",
    "align.weight=0.05",
    "align.weight_aux=0.01",
    "optim.lr=5e-5",
]


def runtime_here() -> Runtime:
    return Runtime(collectives.rank(), collectives.world(), 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)


def curves(stage: str) -> list[list[dict[str, float]]]:
    """Losses of twenty steps, ours and the plain loop's, averaged over the ranks; both stages start from
    the same seed.
    """
    config, runtime = default_config(WORDS), runtime_here()
    pairs = generated(config, 1, stage == "selftrain", seed=runtime.rank)
    own, plain = OwnStep(stage, config, runtime, pairs), PlainStep(stage_plan(stage, config), config, runtime)
    images = [plain.images(pair) for pair in pairs]
    found: list[list[dict[str, float]]] = [[], []]
    for step in range(STEPS):
        of_step = (
            {k: float(v) for k, v in own.step(step).items()},
            plain.step(step, pairs[step % len(pairs)], images[step % len(pairs)]),
        )
        for curve, losses in zip(found, of_step, strict=True):
            names = sorted(losses)
            mean = (
                collectives.all_reduce_(torch.tensor([losses[n] for n in names], dtype=torch.float64)) / runtime.world
            )
            curve.append(dict(zip(names, mean.tolist(), strict=True)))
    return found


def counted(sizes, bucket):  # type: ignore[no-untyped-def]  # DDP compares annotations with classes, and here they are strings
    """All-reduces a bucket as DDP would, and notes its bytes."""
    sizes.append(bucket.buffer().numel() * bucket.buffer().element_size())
    return allreduce_hook(dist.group.WORLD, bucket)


def reduced(stage: str, accumulate: int) -> dict[str, list[int]]:
    """Per network the bytes all-reduced in each of three steps, and the bytes of its gradient."""
    config, runtime = default_config([*WORDS, f"optim.accumulate={accumulate}"]), runtime_here()
    own = OwnStep(stage, config, runtime, generated(config, 1, True))
    sizes: dict[str, list[int]] = {name: [] for name in own.stage.networks}
    for name, network in own.stage.networks.items():
        assert isinstance(network, DistributedDataParallel)
        network.register_comm_hook(sizes[name], counted)
    found: dict[str, list[int]] = {name: [] for name in sizes}
    for step in range(3):
        own.updater.step(step, [own.pair() for _ in range(accumulate)])
        for name, buckets in sizes.items():
            found[name].append(sum(buckets))
            buckets.clear()
    for name, size in own.gradient_bytes().items():
        found[name].append(size)
    return found


def overlap() -> dict[str, float]:
    """When, in one step, the gradients' all-reduces begin and the last convolution's backward ends, in microseconds."""
    config, runtime = (
        default_config([*WORDS, "model.deeplabv2.width=32"]),
        runtime_here(),
    )  # a gradient of several buckets
    own = OwnStep("source", config, runtime, generated(config, 1, False))
    for step in range(3):
        own.step(step)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        own.step(3)
    events = profile.events()
    large = [
        e
        for e in events
        if e.name == "gloo:all_reduce"
        and e.input_shapes
        and max((n for shape in e.input_shapes if shape for n in shape), default=0) > 1000
    ]
    backward = [e for e in events if e.name == "aten::convolution_backward"]
    return {
        "all_reduces": len(large),
        "first_begins": min((e.time_range.start for e in large), default=float("inf")),
        "backward_begins": min(e.time_range.start for e in backward),
        "backward_ends": max(e.time_range.end for e in backward),
    }


def everything() -> dict[str, Any]:
    return {
        "bytes": [reduced("align", 1), reduced("selftrain", 2)],
        "overlap": overlap(),
        "curves": {stage: curves(stage) for stage in ("align", "selftrain")},
    }


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = run_ranks(2, f"{__name__}:everything")
    return found


@pytest.mark.parametrize("stage", ["align", "selftrain"])
def test_twenty_steps_have_the_losses_of_the_plain_loop(ranks: list[dict[str, Any]], stage: str) -> None:
    ours, plain = ranks[0]["curves"][stage]
    for step, (mine, theirs) in enumerate(zip(ours, plain, strict=True)):
        assert mine == pytest.approx(theirs, rel=1e-5, abs=1e-7), f"step {step}"
    assert ours[-1]["source_main"] < ours[0]["source_main"], "it learns"


def test_one_gradient_of_each_network_is_reduced_per_step(ranks: list[dict[str, Any]]) -> None:
    for networks in (found for rank in ranks for found in rank["bytes"]):
        assert len(networks) == 3
        for name, (*steps, size) in networks.items():
            assert size > 0 and steps == [size] * 3, name


def test_gradients_are_reduced_while_backward_runs(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        found = rank["overlap"]
        assert found["all_reduces"] >= 2
        assert found["backward_begins"] < found["first_begins"] < found["backward_ends"]


def test_an_objective_that_is_not_written_out_is_refused() -> None:
    config = default_config([*WORDS, "align.objective=minent"])
    with pytest.raises(ValueError, match="bench: the plain step is written out for none, advent and adaptsegnet"):
        PlainStep(stage_plan("align", config), config, runtime_here())
