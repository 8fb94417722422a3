"""The control of a teacher method: its network, crops, rare classes, looks and optimiser, on the source alone.

What a method's gain is told from, since the networks of today are strong before any adaptation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from esl_dist.distributed import ddp
from esl_dist.engine.step import Losses, Pair
from esl_dist.methods.passes import add_losses
from esl_dist.methods.teacher.ingredients import Source
from esl_dist.methods.teacher.moment import Moment
from esl_dist.methods.teacher.step import sources_of
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

    def step(self, micro: Sequence[Pair]) -> Losses:
        """Gradients of one optimiser step, summed over its micro-batches."""
        number = micro[0].source.positions[0] // self.images_per_step
        known, truths, counts = sources_of(micro, number, self.student)
        losses: Losses = {}
        for pair, truth, count in zip(micro, truths, counts, strict=True):
            # There is no target: the source stands for it, and its labels for a teacher's.
            nothing = torch.zeros_like(truth, dtype=torch.float32)
            moment = Moment(known, pair.source, pair.source, truth, count, truth, nothing)
            with ddp.sync_if(self.student.segmenter, pair is micro[-1]):
                loss, parts = self.source.loss(moment, self.student)
                self.student.passes.backward(loss)
            add_losses(losses, parts)
        return losses
