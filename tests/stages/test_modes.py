"""DRSL's second head in a step: ranks against one process, what is drawn, what is learnt, what is logged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from esl_dist.config.modes import MmdlConfig
from esl_dist.config.schema import AlignConfig
from esl_dist.data.loader import Batch
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.runtime import Runtime
from esl_dist.models import DeepLabV2, Discriminator
from esl_dist.models.mmdl import ModeHead, initialise
from esl_dist.stages.adapt import Adaptation, SelfTraining
from esl_dist.stages.modes import Modes
from esl_dist.stages.objectives import build_objective
from esl_dist.stages.passes import Pair, Passes
from tests.ranks import run_ranks
from tests.stages.test_parity_ddp import CLASSES, batch, same

NAMES = tuple(f"class {c}" for c in range(CLASSES))
METRIC = MmdlConfig(weight=1.0, samples=24, pool=16, dim=8)
ALIGNED = MmdlConfig(weight=1.0, align_weight=0.7, samples=24, pool=16, dim=8)
EVERYTHING = MmdlConfig(weight=1.0, weight_target=0.5, align_weight=0.7, samples=80, pool=80, dim=8, modes=2)
# Name: the head's options, whether pseudo-labels are there, whether a discriminator learns beside it.
STAGES = {
    "source only": (METRIC, False, False),
    "aligned": (ALIGNED, False, True),
    "pseudo-labels": (MmdlConfig(weight=1.0, weight_target=0.5, samples=24, pool=16, dim=8), True, False),
    "everything": (EVERYTHING, True, True),
}


def runtime_of_this_process() -> Runtime:
    return Runtime(collectives.rank(), collectives.world(), 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)


def build(name: str, runtime: Runtime) -> Adaptation:
    """The stage with small networks, batch norm frozen, drawn from one seed."""
    torch.manual_seed(0)
    config, labelled, adversarial = STAGES[name]
    segmenter = ddp.wrap(DeepLabV2(CLASSES, layers=(1, 1, 1, 1), width=8).eval(), runtime)
    passes = Passes(runtime, (104.0, 108.0, 112.0), 64.0)
    discriminators: dict[str, nn.Module] = {"main": ddp.wrap(Discriminator(CLASSES, ndf=8), runtime)} if adversarial else {}
    align = AlignConfig("advent" if adversarial else "none", weight=0.5, weight_aux=0.0)
    head = initialise(ModeHead(256, CLASSES, config.modes, config.dim), 3)
    modes = Modes(ddp.wrap(head, runtime), config, passes, NAMES, 1, learns_target=labelled)
    objective = build_objective(align.objective, align, True, discriminators)
    return Adaptation(segmenter, passes, CLASSES, objective, 0.1, SelfTraining(1.0, 0.1) if labelled else None, modes)


def placed(indices: Sequence[int], labelled: bool) -> Batch:
    return batch(list(indices), labelled)._replace(positions=tuple(indices))


def pair(name: str, own: Sequence[int]) -> Pair:
    return Pair(placed(own, True), placed([100 + i for i in own], STAGES[name][1]))


def results(cases: list[list[int]], out: str) -> bool:
    """Gradients, usage and figures of every stage for each case (images per rank and micro-batch, global batch), split over the ranks that there are."""
    runtime = runtime_of_this_process()
    found = []
    for per_rank, total in cases:
        share = runtime.world * per_rank
        starts = [a * share + runtime.rank * per_rank for a in range(total // share)]
        found.append({name: after_two_steps(build(name, runtime), [pair(name, range(s, s + per_rank)) for s in starts]) for name in STAGES})
    if runtime.rank == 0:
        torch.save(found, out)
    return True


def after_two_steps(stage: Adaptation, micro: Sequence[Pair]) -> dict[str, torch.Tensor]:
    for _ in range(2):  # the second step shows a reducer that the first left in a bad state, and sees the first one's usage
        for network in stage.networks.values():
            network.zero_grad(set_to_none=True)
        losses = stage.step(micro)
    grads = {f"{n}.{k}": p.grad for n, m in stage.networks.items() for k, p in ddp.inner(m).named_parameters() if p.grad is not None}
    assert {k for k in grads if k.startswith("mmdl.")} == {"mmdl.embedding.weight", "mmdl.embedding.bias", "mmdl.representatives"}
    used = {name: value for name, value in losses.items() if name.startswith("modes/entropy")}
    return {**grads, "usage": ddp.inner(stage.networks["mmdl"]).usage, **used}


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_equal_one_process(world: int, tmp_path: Path) -> None:
    """One and two images per rank, and two micro-batches of one image, against all images at once."""
    cases = [(1, world), (2, 2 * world), (1, 2 * world)]
    run_ranks(world, f"{__name__}:results", cases, str(tmp_path / "ranks.pt"))
    results([[total, total] for _, total in cases], str(tmp_path / "one.pt"))
    loaded = (torch.load(tmp_path / name, weights_only=True) for name in ("ranks.pt", "one.pt"))
    for (per_rank, total), ranks, one in zip(cases, *loaded, strict=True):
        for name, (config, _, _) in STAGES.items():
            if total == world * per_rank or not config.align_weight:  # the pool is a micro-batch's
                same(ranks[name], one[name], f"{name}, {per_rank} per rank of {total}")
