"""Small batches, networks and steps for the tests of the teacher methods."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from esl_dist.config.teacher import TeacherConfig, published
from esl_dist.data.loader import Batch
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.step import Pair
from esl_dist.labels import protocol
from esl_dist.methods.passes import Passes
from esl_dist.methods.teacher.build import teacher_step
from esl_dist.methods.teacher.step import TeacherStep
from esl_dist.models import DeepLabV2, Normalisation, Segmenter
from esl_dist.models.daformer import DaFormer
from esl_dist.models.hrda import Hrda
from esl_dist.models.mit import TINY

PROTOCOL = protocol("7")
CLASSES, SIZE = PROTOCOL.num_classes, (64, 64)


def runtime() -> Runtime:
    return Runtime(collectives.rank(), collectives.world(), 0, 1, torch.device("cpu"), "fp32", 1, 1, True, 100)


def sample(index: int) -> tuple[Tensor, Tensor, Tensor]:
    """Image ``index``, labels in blocks whose ignored share and classes differ between images, and a margin mask."""
    generator = torch.Generator().manual_seed(index)
    image = torch.randint(0, 256, (3, *SIZE), generator=generator, dtype=torch.uint8)
    blocks = torch.randint(0, CLASSES - index % 3, (8, 8), generator=generator, dtype=torch.uint8)
    label = blocks.repeat_interleave(8, 0).repeat_interleave(8, 1)
    label[torch.rand(SIZE, generator=generator) < (1.0 if index % 100 == 1 else 0.3 * (index % 4))] = 255
    inside = torch.full(SIZE, 255, dtype=torch.uint8)
    inside[: 5 + index % 7] = 0
    return image, label, inside


def batch(indices: Sequence[int], positions: Sequence[int], labelled: bool) -> Batch:
    images, labels, insides = zip(*map(sample, indices), strict=True)
    weights = None if labelled else torch.stack(insides)
    return Batch(
        torch.stack(images),
        torch.stack(labels) if labelled else None,
        torch.tensor(list(indices)),
        (),
        tuple(positions),
        weights,
    )


def pair(own: Sequence[int], step: int, total: int) -> Pair:
    """Images ``own`` of the ``total`` of a step."""
    positions = [step * total + i for i in own]
    return Pair(batch(own, positions, True), batch([100 + i for i in own], positions, False))


def segmenter(multi_level: bool = True) -> DeepLabV2:
    """A small network whose statistics are frozen, drawn from one seed; confident enough to be selected from."""
    torch.manual_seed(0)
    network = DeepLabV2(CLASSES, layers=(1, 1, 1, 1), width=8, multi_level=multi_level).freeze_statistics().train()
    network.normalisation = Normalisation("bgr", (104.0, 108.0, 112.0), (64.0, 64.0, 64.0))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith("layer6."):
                parameter.mul_(40)
    return network


def two_resolutions() -> Segmenter:
    """HRDA on a tiny DAFormer, which drops paths and channels and looks closely somewhere; statistics frozen."""
    with torch.device("meta"):
        network = Hrda(DaFormer(CLASSES, TINY, drop_path=0.3, channels=8))
    network.to_empty(device="cpu").initialise(5, "random")
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("conv_seg.weight"):
                parameter.mul_(100)
    return network.freeze_statistics().train()


def build(
    method: str, options: TeacherConfig, total: int, multi_level: bool = True, network: Segmenter | None = None
) -> TeacherStep:
    here = runtime()
    passes = Passes(here)
    wrapped = ddp.wrap(network or segmenter(multi_level), here)
    return teacher_step(published(method, options), wrapped, passes, PROTOCOL, 3, total)


@torch.no_grad()
def disturb(step: TeacherStep, seed: int) -> None:
    """Move the student as an optimiser would, the same on every rank."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in ddp.inner(step.student.segmenter).parameters():
        if parameter.requires_grad:
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator) * parameter.abs().mean())
