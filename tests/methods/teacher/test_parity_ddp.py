"""N ranks equal one process with the same global batch, for every method: gradients, label weights, draws, teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.nn.parallel import DistributedDataParallel

from esl_dist.config.teacher import MaskConfig, MixConfig, SelectConfig, TeacherConfig, TeacherLabelsConfig
from esl_dist.distributed import ddp
from esl_dist.engine.guards import compare_replicas
from esl_dist.methods.teacher.moment import Moment
from esl_dist.methods.teacher.student import Student
from tests.methods.teacher.made import build, disturb, pair, runtime, two_resolutions
from tests.ranks import run_ranks

LABELS = TeacherLabelsConfig(tau=0.4)
CASES: dict[str, tuple[str, TeacherConfig]] = {
    "daformer": ("daformer", TeacherConfig(labels=LABELS)),
    "mic": ("mic", TeacherConfig(labels=LABELS)),
    "vfm_uda": ("vfm_uda", TeacherConfig(labels=LABELS)),
    "as the papers write": (
        "mic",
        TeacherConfig(labels=TeacherLabelsConfig(0.4, share="image"), mix=MixConfig(classes="image")),
    ),
    "esl": ("mic", TeacherConfig(labels=LABELS, select=SelectConfig("replace", window=40))),
    "esl and q, soft": ("daformer", TeacherConfig(labels=LABELS, select=SelectConfig("with", "margin", soft=True))),
    "heads agree": ("mic", TeacherConfig(labels=LABELS, select=SelectConfig("replace", of="heads", nu=0.0))),
    "teacher and student agree": (
        "mic",
        TeacherConfig(labels=LABELS, select=SelectConfig("replace", "probability", "student", nu=0.0)),
    ),
    "hrda": ("hrda", TeacherConfig(labels=LABELS)),
    "adverse weather": ("mic", TeacherConfig(labels=LABELS, mask=MaskConfig(images="both", looks=False, block=16))),
    "two resolutions": ("mic", TeacherConfig(labels=LABELS, mask=MaskConfig(weight=0.5))),
    "own": ("teacher", TeacherConfig(labels=LABELS, ingredients=(f"{__name__}:flat", "mask"))),
}


HEADS = dict.fromkeys(("two resolutions", "hrda"), "segmenter.decode_head.conv_seg.weight")


def flat(moment: Moment, student: Student) -> Tensor:
    """A user's ingredient: the student shall be as sure as the teacher of target images is heavy."""
    said = student.see(moment.target.images, moment, "flat").upsampled.main
    top = torch.softmax(said, dim=1).amax(1)
    return ((1 - top) * moment.weight).sum() / moment.known.pixels


def count_reductions(network: nn.Module) -> list[int]:
    """Grows by one with every all-reduce of (a bucket of) gradients; the small network has one bucket."""
    reduced: list[int] = []
    if isinstance(network, DistributedDataParallel):

        def counting(world, bucket):  # type: ignore[no-untyped-def] # torch compares annotations with types, not names
            reduced.append(bucket.buffer().numel())
            return default_hooks.allreduce_hook(None, bucket)

        network.register_comm_hook(runtime().world, counting)
    return reduced


def gradients_of(name: str, own: list[list[int]], total: int) -> dict[str, Tensor]:
    """Of the second of two steps, when the teacher is half its old self, with the step's figures."""
    method, options = CASES[name]
    step = build(method, options, total, network=two_resolutions() if name in HEADS else None)
    reduced = count_reductions(step.student.segmenter)
    step.step([pair(indices, 0, total) for indices in own])
    assert len(reduced) == (runtime().world > 1), f"{name}: {len(reduced)} all-reduces of gradients in a step"
    disturb(step, 7)
    step.student.segmenter.zero_grad(set_to_none=True)
    figures = step.step([pair(indices, 1, total) for indices in own])
    assert not compare_replicas(step.teacher.network), name
    named = ddp.inner(step.student.segmenter).named_parameters()
    found = {key: parameter.grad for key, parameter in named if parameter.grad is not None}
    return found | {key: value for key, value in figures.items() if key == "label/share"}


def gradients(cases: list[list[int]], out: str) -> bool:
    here = runtime()
    found = []
    for per_rank, total in cases:
        share = here.world * per_rank
        starts = [a * share + here.rank * per_rank for a in range(total // share)]
        own = [list(range(start, start + per_rank)) for start in starts]
        found.append({name: gradients_of(name, own, total) for name in CASES})
    if here.rank == 0:
        torch.save(found, out)
    return True


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_ranks_equal_one_process(world: int, tmp_path: Path) -> None:
    """One image per rank, and two micro-batches of one image, against all images at once."""
    cases = [(1, world), (1, 2 * world)]
    run_ranks(world, f"{__name__}:gradients", cases, str(tmp_path / "ranks.pt"))
    gradients([[total, total] for _, total in cases], str(tmp_path / "one.pt"))
    results = (torch.load(tmp_path / name, weights_only=True) for name in ("ranks.pt", "one.pt"))
    for (_, total), ranks, one in zip(cases, *results, strict=True):
        for name in CASES:
            assert ranks[name].keys() == one[name].keys(), name
            for key, value in one[name].items():
                difference = float((ranks[name][key] - value).abs().max())
                assert difference <= 1e-6 * max(float(value.abs().max()), 1.0), f"{name}, {total} images: {key}"


def test_every_case_learns_something_of_its_own() -> None:
    found = {name: gradients_of(name, [[2, 3]], 2) for name in CASES}
    main = {name: gradients[HEADS.get(name, "layer6.conv2d_list.0.weight")] for name, gradients in found.items()}
    assert all(float(gradient.abs().sum()) > 0 for gradient in main.values())
    names = list(main)
    for i, a in enumerate(names):
        assert not any(torch.equal(main[a], main[b]) for b in names[:i]), a
    assert 0 < float(found["mic"]["label/share"]) < 1
