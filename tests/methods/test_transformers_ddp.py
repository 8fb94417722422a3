"""Transformer networks on two ranks and on one: the same gradients to 1e-6, with dropout, stochastic depth, a drawn
detail and synchronised batch norm; what is frozen gets none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from esl_dist.config.schema import AlignConfig
from esl_dist.data.loader import Batch
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.batch_norm import synchronise
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.step import Pair
from esl_dist.methods.adaptation.objectives import build_objective
from esl_dist.methods.adaptation.step import Adaptation, SelfTraining
from esl_dist.methods.passes import Passes
from esl_dist.methods.supervised import Supervised
from esl_dist.models.soma import adapt
from tests.models.transformers.common import CLASSES, built
from tests.ranks import run_ranks

SIZE = (64, 128)
CASES = [
    *((name, "source") for name in ("daformer", "hrda-daformer", "vfm_uda", "vfm_uda_plus", "soma")),
    *((name, "selftrain") for name in ("hrda-daformer", "vfm_uda")),
]


def batch(positions: Sequence[int]) -> Batch:
    images, labels = [], []
    for position in positions:
        generator = torch.Generator().manual_seed(position)
        images.append(torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8))
        label = torch.randint(0, CLASSES, (SIZE[0] // 8, SIZE[1] // 8), generator=generator, dtype=torch.uint8)
        labels.append(label.repeat_interleave(8, 0).repeat_interleave(8, 1))
        labels[-1][: 16 * (position % 3)] = 255
    return Batch(torch.stack(images), torch.stack(labels), torch.tensor(positions), (), tuple(positions))


def step_of(name: str, kind: str, runtime: Runtime) -> Supervised | Adaptation:
    """In float64, so that the order of a sum does not hide behind the tolerance."""
    if name == "soma":
        network = built("vfm_uda")
        adapt(network.encoder, rank=2, first_block=1)
    else:
        network = built(name, drop_path=0.4)
    network = synchronise(network.double().train(), cuda=False)
    wrapped, passes = ddp.wrap(network, runtime), Passes(runtime, seed=3)
    if kind == "source":
        return Supervised(wrapped, passes, CLASSES)
    objective = build_objective("minent", AlignConfig("minent", weight=0.5), False, {})
    return Adaptation(wrapped, passes, CLASSES, objective, 0.1, SelfTraining(1.0, 0.1))


def gradients(out: str) -> bool:
    """Of every case's second step, of a global batch of 2 + 2 images."""
    runtime = Runtime(collectives.rank(), collectives.world(), 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)
    share = 2 // runtime.world
    found = {}
    for name, kind in CASES:
        step = step_of(name, kind, runtime)
        for number in range(2):
            first = 2 * number + runtime.rank * share
            positions = list(range(first, first + share))
            target = batch([100 + p for p in positions]) if kind == "selftrain" else None
            step.segmenter.zero_grad(set_to_none=True)
            losses = step.step([Pair(batch(positions), target)])
        network = ddp.inner(step.segmenter)
        assert ("source_detail" in losses) == name.startswith("hrda")
        trained = {key: p.grad for key, p in network.named_parameters() if p.grad is not None}
        assert trained.keys() == {key for key, p in network.named_parameters() if p.requires_grad}
        found[f"{name} {kind}"] = trained
    torch.save(found, f"{out}/{runtime.world}-{runtime.rank}.pt")
    return True


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, torch.Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("gradients")
    gradients(str(folder))
    run_ranks(2, "tests.methods.test_transformers_ddp:gradients", str(folder))
    return {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in ("1-0", "2-0", "2-1")}


@pytest.mark.parametrize("case", [" ".join(case) for case in CASES])
def test_two_ranks_are_one_process(case: str, found: dict[str, dict[str, dict[str, torch.Tensor]]]) -> None:
    alone, first, second = (found[name][case] for name in ("1-0", "2-0", "2-1"))
    scale = max(float(gradient.abs().max()) for gradient in alone.values())
    for key, gradient in alone.items():
        assert torch.equal(first[key], second[key]), key
        assert float((first[key] - gradient).abs().max()) <= 1e-6 * scale, key


def test_frozen_parts_learn_nothing(found: dict[str, dict[str, dict[str, torch.Tensor]]]) -> None:
    names = found["2-0"]["soma source"].keys()
    assert any("blocks.3.attn.qkv.a" in key for key in names) and not any("residual" in key for key in names)
    assert not any(key.startswith("encoder.blocks.0.") for key in names)
