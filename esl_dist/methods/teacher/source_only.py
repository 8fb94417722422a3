"""The control of a teacher method: its network, crops, rare classes, looks and optimiser, on the source alone.

What a method's gain is told from, since the networks of today are strong before any adaptation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esl_dist.distributed import ddp
from esl_dist.engine.step import Losses, Pair
from esl_dist.methods.draws import on_the_host
from esl_dist.methods.passes import add_losses
from esl_dist.methods.teacher.ingredients import Source
from esl_dist.methods.teacher.moment import Known, Moment, Scene, Sight
from esl_dist.methods.teacher.step import sources_of, truth_of
from esl_dist.methods.teacher.student import Student


@dataclass
class SourceOnly:
    """The method's pass on labelled images, and no other."""

    student: Student
    source: Source
    images_per_step: int
    """Over all ranks and micro-batches."""
    needs_target: bool = False

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"segmenter": self.student.segmenter}

    @property
    def host_work(self) -> str:
        """See ``engine.step.DeviceAlone``."""
        return on_the_host(self.student.segmenter)

    @property
    def unmeasured(self) -> str:
        return "a teacher method's crops and looks"

    def step(self, micro: Sequence[Pair]) -> Losses:
        """Gradients of one optimiser step, summed over its micro-batches."""
        return self.take(micro, self.prepare(micro))

    def prepare(self, micro: Sequence[Pair]) -> tuple[Known, list[Tensor], list[Sight]]:
        number = micro[0].source.positions[0] // self.images_per_step
        known, counts = sources_of(micro, number, self.student)
        # There is no target: the source stands for it.
        scenes = [
            Scene(known, pair.source, pair.source, truth_of(pair, self.student), count)
            for pair, count in zip(micro, counts, strict=True)
        ]
        return known, counts, [self.source.draw(scene, self.student) for scene in scenes]

    def take(self, micro: Sequence[Pair], prepared: tuple[Known, list[Tensor], list[Sight]]) -> Losses:
        losses: Losses = {}
        known, counts, sights = prepared
        for pair, count, sight in zip(micro, counts, sights, strict=True):
            truth = truth_of(pair, self.student)  # and its labels for a teacher's
            nothing = torch.zeros_like(truth, dtype=torch.float32)
            moment = Moment(known, pair.source, pair.source, truth, count, truth, nothing)
            with ddp.sync_if(self.student.segmenter, pair is micro[-1]):
                loss, parts = self.source.loss(moment, self.student, sight)
                self.student.passes.backward(loss)
            add_losses(losses, parts)
        return losses
