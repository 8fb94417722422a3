"""What DRSL's second head adds to a self-training step on the embedded pair's network: steps with and without it, in
turn.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

import torch

from esl_dist.config.load import load_config
from esl_dist.config.modes import MmdlConfig
from esl_dist.config.schema import Config
from esl_dist.data.loader import Batch
from esl_dist.distributed import ddp
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.optim import Optimizers
from esl_dist.engine.step import Pair
from esl_dist.methods import stages
from esl_dist.methods.adaptation.step import Adaptation
from esl_dist.methods.kit import Kit

SIZE = (128, 256)
BLOCK = 32
WARM_UP = 2


def run(steps: int = 20) -> dict[str, Any]:
    """CPU seconds of an optimiser step of each on one thread (2 + 2 images, self-training without a discriminator), and
    the median of their ratios.
    """
    torch.set_num_threads(1)
    plain = load_config("streets.yaml", ["run.stages=[initial,selftrain]", "selftrain.objective=none", "optim.batch=2"])
    head = MmdlConfig(weight=0.1, weight_target=0.1, align_weight=1.0)
    learners = [_learner(config) for config in (plain, dataclasses.replace(plain, mmdl=head))]
    seconds: list[list[float]] = [[], []]
    for number in range(WARM_UP + steps):
        pair = Pair(noise(2 * number), noise(2 * number + 1))
        for (stage, optimizers), taken in zip(learners, seconds, strict=True):
            began = time.process_time()
            _step(stage, optimizers, pair)
            taken.append(time.process_time() - began)
    without, with_head = (taken[WARM_UP:] for taken in seconds)
    return {
        "steps": steps,
        "plain_ms": 1e3 * statistics.median(without),
        "modes_ms": 1e3 * statistics.median(with_head),
        "ratio": statistics.median(b / a for a, b in zip(without, with_head, strict=True)),
        "samples": head.samples,
        "parameters": sum(p.numel() for p in learners[1][0].networks["mmdl"].parameters()),
    }


def table(results: dict[str, Any]) -> str:
    return (
        f"a self-training step of the embedded pair's network, 2 + 2 images of {SIZE[1]}x{SIZE[0]}, one thread, CPU"
        f" (median of {results['steps']}, in turn): plain {results['plain_ms']:.0f} ms, with modes and their alignment"
        f" {results['modes_ms']:.0f} ms, ratio {results['ratio']:.3f} ({results['samples']} pixels an image,"
        f" {results['parameters']} parameters)"
    )


def _learner(config: Config) -> tuple[Adaptation, Optimizers]:
    runtime = Runtime(0, 1, 0, 1, torch.device("cpu"), "fp32", 1, 1, True, config.run.timeout_s)
    planned = stages(config)[-1]
    step, recipe = planned.method.build(planned, Kit(config, runtime, torch.amp.GradScaler("cpu", enabled=False)))
    assert isinstance(step, Adaptation)
    return step, recipe.build({name: ddp.inner(network) for name, network in step.networks.items()})


def _step(stage: Adaptation, optimizers: Optimizers, pair: Pair) -> None:
    for optimizer in optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    stage.step([pair])
    for optimizer in optimizers.values():
        optimizer.step()


def noise(position: int) -> Batch:
    """Two noise images with labels in blocks, a tenth of them without a class."""
    generator = torch.Generator().manual_seed(position)
    images = torch.randint(0, 256, (2, 3, *SIZE), generator=generator, dtype=torch.uint8)
    blocks = torch.randint(0, 21, (2, SIZE[0] // BLOCK, SIZE[1] // BLOCK), generator=generator, dtype=torch.uint8)
    labels = blocks.repeat_interleave(BLOCK, 1).repeat_interleave(BLOCK, 2)
    return Batch(
        images, torch.where(labels < 19, labels, 255), torch.tensor([0, 1]), (), (2 * position, 2 * position + 1)
    )
