"""VFM-UDA's masked patches and VFM-UDA++'s feature distance, on one process and on several ranks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from esl_dist.config.teacher import MaskConfig, TeacherConfig, TeacherLabelsConfig, published
from esl_dist.distributed import ddp
from esl_dist.distributed.batch_norm import synchronise
from esl_dist.losses.feature_distance import token_distance
from esl_dist.methods.passes import Passes
from esl_dist.methods.teacher.build import teacher_step
from esl_dist.methods.teacher.step import TeacherStep
from esl_dist.models import dinov2
from esl_dist.models.adapter import VfmUdaPlus
from esl_dist.models.adapter.distil import PATCHES, Distillation, build_distillation
from esl_dist.models.initial import initialise
from esl_dist.models.vfm import VfmUda
from tests.methods.teacher.made import CLASSES, PROTOCOL, pair, runtime
from tests.ranks import run_ranks

OPTIONS = TeacherConfig(labels=TeacherLabelsConfig(tau=0.3, margins="none"))


def distillation(channels: int) -> Distillation:
    """With a reference that says something."""
    made = build_distillation("tiny", channels, 5)
    initialise(made.reference, 6)
    return made


def built(method: str, options: TeacherConfig = OPTIONS, total: int = 2) -> TeacherStep:
    here = runtime()
    kind = VfmUdaPlus if method == "vfm_uda_plus" else VfmUda
    network = kind(CLASSES, dinov2.TINY, grid=5)
    network.initialise(1, "random")
    wrapped = ddp.wrap(synchronise(network.double().train(), cuda=False), here)
    beside = None
    if method == "vfm_uda_plus":
        reference, head = distillation(dinov2.TINY.dim)
        beside = (reference.double(), ddp.wrap(head.double().train(), here))
    return teacher_step(published(method, options), wrapped, Passes(here), PROTOCOL, 3, total, beside)


def gradients(step: TeacherStep) -> dict[str, Tensor]:
    """Of the second of two steps."""
    here, total = runtime(), step.images_per_step
    share = total // here.world
    for number in range(2):
        for network in step.networks.values():
            network.zero_grad(set_to_none=True)
        losses = step.step([pair(range(here.rank * share, (here.rank + 1) * share), number, total)])
    assert {"source_main", "mix_main", "mask_main"} <= losses.keys()
    return {
        f"{name}.{key}": p.grad
        for name, network in step.networks.items()
        for key, p in ddp.inner(network).named_parameters()
        if p.grad is not None
    }


def save(method: str, out: str, total: int) -> bool:
    here = runtime()
    torch.save(gradients(built(method, total=total)), f"{out}/{here.world}-{here.rank}.pt")
    return True


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("method", "world"),
    [
        ("vfm_uda", 2),
        pytest.param("vfm_uda_plus", 2, marks=slow),
        pytest.param("vfm_uda", 3, marks=slow),
        pytest.param("vfm_uda_plus", 3, marks=slow),
    ],
)
def test_ranks_are_one_process(method: str, world: int, tmp_path: Path) -> None:
    """Both trained networks: the student, and the head of the feature distance."""
    save(method, str(tmp_path), world)
    run_ranks(world, "tests.methods.teacher.test_foundation:save", method, str(tmp_path), world)
    files = ("1-0", f"{world}-0", f"{world}-{world - 1}")
    alone, first, second = (torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in files)
    scale = max(float(g.abs().max()) for g in alone.values())
    assert first.keys() == second.keys() == alone.keys()
    for key, gradient in alone.items():
        assert torch.equal(first[key], second[key]), key
        assert float((first[key] - gradient).abs().max()) <= 1e-6 * scale, key
    assert any(key.startswith("distil.") for key in alone) == (method == "vfm_uda_plus")


@pytest.mark.parametrize("of", ["patches", "pixels"])
def test_masked_patches_become_the_mask_token(of: str) -> None:
    options = dataclasses.replace(OPTIONS, mask=MaskConfig(of=of))
    step = built("vfm_uda", options)
    found = gradients(step)["segmenter.encoder.mask_token"]
    assert bool(found.any()) == (of == "patches")


def test_distance_of_tokens() -> None:
    """0.1 smooth L1 over channels and 0.9 of one minus the cosine."""
    said, expected = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([3.0, -4.0]).view(1, 2, 1, 1)
    smooth = (0 + 8 - 0.5) / 2
    assert token_distance(said, expected).item() == pytest.approx(0.1 * smooth + 0.9 * (1 + 7 / 25))
    assert token_distance(said, said).abs().max() < 1e-6


def test_the_reference_is_still_and_sees_406_pixels() -> None:
    reference, head = distillation(8)
    features = reference.train()(torch.randn(2, 3, 60, 90))
    assert features.shape == (2, 64, PATCHES, PATCHES) and not features.requires_grad and not reference.training
    assert head(torch.randn(2, 8, 4, 6)).shape == features.shape
    assert isinstance(head.feat_project, nn.Sequential) and {k.partition(".")[0] for k in head.state_dict()} == {
        "feat_project"
    }
