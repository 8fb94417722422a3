"""One step of training with an averaged teacher.

    teacher <- average(teacher, student)
    labels, weights <- teacher(target images)
    for every ingredient:    backward of its loss on the student
    optimiser step           (in ``engine/update.py``)

The backwards of a step, of all its micro-batches, add up in one gradient, which is all-reduced once, in the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esl_dist.data.loader import Batch
from esl_dist.distributed import collectives, ddp
from esl_dist.engine.step import Losses, Pair
from esl_dist.losses import upsampled_probabilities
from esl_dist.methods.passes import add_losses
from esl_dist.methods.teacher import classmix
from esl_dist.methods.teacher.average import Teacher
from esl_dist.methods.teacher.ingredients import Ingredient
from esl_dist.methods.teacher.labels import Guess, guess
from esl_dist.methods.teacher.moment import Known, Moment
from esl_dist.methods.teacher.student import Student
from esl_dist.methods.teacher.weights import LabelWeights


@dataclass
class TeacherStep:
    """The student (wrapped), its teacher (not), and the list of ingredients that is the method."""

    student: Student
    teacher: Teacher
    weights: LabelWeights
    ingredients: Sequence[Ingredient]
    """In the order of their passes; the last reaches every head."""
    images_per_step: int
    """Of one domain, over all ranks and micro-batches."""
    mirror: bool = False
    """The teacher also sees the mirror image."""
    judged: str = "teacher"
    """Whose probabilities the selection judges by: ``teacher``, ``heads`` (the mean of its two), or ``student`` (the
    mean of the teacher's and the student's)."""
    teaches_last: bool = False
    """The teacher is the result, not the student."""
    needs_target: bool = True

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        beside: dict[str, nn.Module] = {}
        for ingredient in self.ingredients:
            beside |= getattr(ingredient, "networks", {})
        return {"segmenter": self.student.segmenter, **beside}

    @property
    def carried(self) -> Mapping[str, nn.Module]:
        """In checkpoints, without an optimiser. The result is ``segmenter`` there, whichever of the two it is."""
        if self.teaches_last:
            return {"segmenter": self.teacher.network, "student": ddp.inner(self.student.segmenter)}
        return {"teacher": self.teacher.network}

    def memory(self) -> dict[str, Tensor]:
        return self.weights.memory()

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        self.weights.recall(memory)

    def step(self, micro: Sequence[Pair]) -> Losses:
        """Gradients of one optimiser step, summed over its micro-batches."""
        number = micro[0].source.positions[0] // self.images_per_step
        self.teacher.update(number)
        losses = Losses()
        moments = self._moments(number, micro, losses)
        for ingredient in self.ingredients:
            ingredient.prepare(moments, self.student.passes)
        for moment in moments:
            for ingredient in self.ingredients:
                last = moment is moments[-1] and ingredient is self.ingredients[-1]
                with ddp.sync_if(self.student.segmenter, last):
                    loss, parts = ingredient.loss(moment, self.student)
                    self.student.passes.backward(loss)
                add_losses(losses, parts)
        return losses

    def _moments(self, step: int, micro: Sequence[Pair], figures: Losses) -> list[Moment]:
        """Every micro-batch with the teacher's labels; ``figures`` gets what is worth a line in the log."""
        passes = self.student.passes
        known, truths, counts = sources_of(micro, step, self.student)
        targets = [pair.target for pair in micro if pair.target]
        guesses = [self._label(target) for target in targets]
        weights = self.weights.of_step(step, guesses, [passes.weights(target.weights) for target in targets], figures)
        return [
            Moment(known, pair.source, target, truth, count, said.labels, weight)
            for pair, target, truth, count, said, weight in zip(
                micro, targets, truths, counts, guesses, weights, strict=True
            )
        ]

    def _label(self, target: Batch) -> Guess:
        """The teacher's labels of target images as they came."""
        images = target.images
        judges = bool(self.weights.by)
        with self.teacher.labelling() as network:
            of_heads = self._probabilities(network, images, judges and self.judged == "heads")
        prob, judged = of_heads[0], torch.stack(of_heads).mean(0) if len(of_heads) > 1 else None
        if judges and self.judged == "student":
            with self.student.looking() as network:
                judged = (prob + self._probabilities(network, images)[0]) / 2
        return guess(prob, self.weights.by, judged)

    def _probabilities(self, network: nn.Module, images: Tensor, of_aux: bool = False) -> list[Tensor]:
        """Of the main head, and of the aux head where that is asked for, averaged over the views."""
        found = []
        for mirrored in (False, True)[: 1 + self.mirror]:
            said = self.student.passes.forward(network, images.flip(-1) if mirrored else images)
            heads = [said.logits.main, *([said.logits.aux] if of_aux and said.logits.aux is not None else [])]
            prob = [upsampled_probabilities(logits, said.size_hw) for logits in heads]
            found.append([one.flip(-1) for one in prob] if mirrored else prob)
        if not self.mirror:
            return found[0]
        return [(straight + turned) / 2 for straight, turned in zip(*found, strict=True)]


def sources_of(micro: Sequence[Pair], step: int, student: Student) -> tuple[Known, list[Tensor], list[Tensor]]:
    """What is known of a step from its source labels alone; and of each micro-batch its labels and their counts."""
    passes, classes = student.passes, student.num_classes
    truths = [passes.labels(_labels_of(pair)) for pair in micro]
    counts = [classmix.class_counts(truth, classes) for truth in truths]
    of_step = collectives.all_reduce_(torch.stack([count.sum(0) for count in counts]).sum(0))
    labelled = of_step[:classes].sum().double().clamp_min(1) / passes.runtime.world
    pixels = float(sum(truth.numel() for truth in truths))  # as many on every rank
    return Known(step, of_step, pixels, labelled), truths, counts


def _labels_of(pair: Pair) -> Tensor:
    assert pair.source.labels is not None
    return pair.source.labels
