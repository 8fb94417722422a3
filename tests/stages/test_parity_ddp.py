"""N ranks equal one process on the same global batch: gradients to 1e-6, batch norm frozen, ignore fractions that differ between ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from esl_dist.config.schema import AlignConfig
from esl_dist.data.loader import Batch
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.runtime import Runtime
from esl_dist.models import DeepLabV2, Discriminator
from esl_dist.stages.adapt import Adaptation, SelfTraining
from esl_dist.stages.objectives import adversarial, build_objective
from esl_dist.stages.passes import Pair, Passes
from esl_dist.stages.supervised import Supervised
from tests.ranks import run_ranks

CLASSES, SIZE = 7, (48, 64)
STAGES = ["source", "none", "bn", "adaptsegnet", "advent", "minent", "maxsquare", "iw_maxsquare", "guided", "advent+labels", "single+labels"]


def sample(index: int, labelled: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Image ``index`` and a label map whose ignored share differs from image to image (image 1 has nothing to learn)."""
    generator = torch.Generator().manual_seed(index)
    image = torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)
    label = torch.randint(0, CLASSES, SIZE, generator=generator, dtype=torch.uint8)
    label[torch.rand(SIZE, generator=generator) < (1.0 if index % 100 == 1 else 0.3 * (index % 4))] = 255
    return image, label if labelled else None


def batch(indices: list[int], labelled: bool) -> Batch:
    samples = [sample(i, labelled) for i in indices]
    labels = torch.stack([label for _, label in samples if label is not None]) if labelled else None
    return Batch(torch.stack([image for image, _ in samples]), labels, torch.tensor(indices), ())


def gradients(name: str, per_rank: int, total: int, out: str) -> bool:
    """Gradients of stage ``name`` on global batch 0..total-1, split over the ranks that there are (micro-batches make up the rest)."""
    torch.manual_seed(0)
    runtime = Runtime(collectives.rank(), collectives.world(), 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)
    kind, _, labels = name.partition("+")
    objective = {"guided": "maxsquare", "single": "advent", "source": "none"}.get(kind, kind)
    config = AlignConfig(objective=objective, weight=0.5, weight_aux=0.2, self_guidance=kind == "guided", guidance_threshold=0.2)
    multi_level = kind != "single"
    segmenter = DeepLabV2(CLASSES, layers=(1, 1, 1, 1), width=8, multi_level=multi_level)
    segmenter.eval()  # batch norm frozen
    passes = Passes(runtime, (104.0, 108.0, 112.0), 64.0)
    wrapped = ddp.wrap(segmenter, runtime)
    discriminators: dict[str, nn.Module] = {}
    if adversarial(objective):
        heads = ("main", "aux") if multi_level else ("main",)
        discriminators = {head: ddp.wrap(Discriminator(CLASSES, ndf=8), runtime) for head in heads}
    stage: Supervised | Adaptation
    if kind == "source":
        stage = Supervised(wrapped, passes, CLASSES)
    else:
        made = build_objective(objective, config, multi_level, discriminators)
        stage = Adaptation(wrapped, passes, CLASSES, made, 0.1, SelfTraining(1.0, 0.1) if labels else None)
    share = runtime.world * per_rank
    micro = []
    for a in range(total // share):
        own = list(range(a * share + runtime.rank * per_rank, a * share + (runtime.rank + 1) * per_rank))
        micro.append(Pair(batch(own, True), batch([100 + i for i in own], bool(labels)) if stage.needs_target else None))
    for _ in range(2):  # the second step shows a reducer that the first left in a bad state
        for network in stage.networks.values():
            network.zero_grad(set_to_none=True)
        stage.step(micro)
    if runtime.rank == 0:
        found = {f"{n}.{k}": p.grad for n, m in stage.networks.items() for k, p in ddp.inner(m).named_parameters() if p.grad is not None}
        torch.save(found, out)
    return True


@pytest.mark.parametrize("world,per_rank", [(2, 1), (2, 2), (3, 1)])
@pytest.mark.parametrize("name", STAGES)
def test_ranks_equal_one_process(name: str, world: int, per_rank: int, tmp_path: Path) -> None:
    if (world, per_rank) != (2, 1) and name not in ("advent+labels", "source", "iw_maxsquare"):
        pytest.skip("the other sizes are run for one stage of each kind; all of them are in the slow suite")
    compare(name, world, per_rank, world * per_rank, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("world,per_rank", [(2, 2), (3, 1)])
@pytest.mark.parametrize("name", STAGES)
def test_ranks_equal_one_process_more(name: str, world: int, per_rank: int, tmp_path: Path) -> None:
    compare(name, world, per_rank, world * per_rank, tmp_path)


def test_accumulation_equals_ranks(tmp_path: Path) -> None:
    """Two ranks, two micro-batches each, equal one process with all four images at once."""
    compare("advent+labels", 2, 1, 4, tmp_path)


def compare(name: str, world: int, per_rank: int, total: int, folder: Path) -> None:
    run_ranks(world, "tests.stages.test_parity_ddp:gradients", name, per_rank, total, str(folder / "ranks.pt"))
    run_ranks(1, "tests.stages.test_parity_ddp:gradients", name, total, total, str(folder / "one.pt"))
    ranks, one = torch.load(folder / "ranks.pt", weights_only=True), torch.load(folder / "one.pt", weights_only=True)
    assert ranks.keys() == one.keys()
    assert any(bool(g.abs().sum() > 0) for g in one.values())
    for key, expected in one.items():
        scale = max(float(expected.abs().max()), 1e-3)
        assert float((ranks[key] - expected).abs().max()) <= 1e-6 * max(scale, 1.0), key
