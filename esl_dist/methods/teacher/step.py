"""One step of training with an averaged teacher.

    draws <- looks, mixed images, masks     (``prepare``, which no network has a part in)
    teacher <- average(teacher, student)
    labels, weights <- teacher(target images)
    for every ingredient:    backward of its loss on the student
    optimiser step           (in ``engine/update.py``)

The backwards of a step, of all its micro-batches, add up in one gradient, which is all-reduced once, in the last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from esl_dist.data.loader import Batch
from esl_dist.data.prefetch import sent
from esl_dist.distributed import collectives, ddp
from esl_dist.engine.checkpoint import weights_sha256
from esl_dist.engine.step import Losses, Pair
from esl_dist.losses import upsampled_probabilities
from esl_dist.methods.draws import on_the_host
from esl_dist.methods.passes import add_losses
from esl_dist.methods.teacher import classmix
from esl_dist.methods.teacher.average import Teacher
from esl_dist.methods.teacher.ingredients import Ingredient, Own
from esl_dist.methods.teacher.labels import Guess, guess
from esl_dist.methods.teacher.moment import Known, Moment, Scene, Sight
from esl_dist.methods.teacher.student import Student
from esl_dist.methods.teacher.weights import LabelWeights


class Drawn(NamedTuple):
    """What the host makes for a step."""

    known: Known
    counts: Sequence[Tensor]
    """By micro-batch, of ``classmix.class_counts``."""
    sights: Sequence[Sequence[Sight | None]]
    """By micro-batch and ingredient."""
    share: Tensor
    """Of the student in the teacher."""
    slot: Tensor | None
    """Of the step in the selection's window."""


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

    @property
    def host_work(self) -> str:
        """See ``engine.step.DeviceAlone``."""
        own = [ingredient.name for ingredient in self.ingredients if isinstance(ingredient, Own)]
        return f"{own[0]} may decide on the host" if own else on_the_host(self.student.segmenter)

    @property
    def unmeasured(self) -> str:
        return "a teacher's step"

    def changed(self) -> list[Tensor]:
        return self.weights.changed()

    def memory(self) -> dict[str, Tensor]:
        return self.weights.memory() | self._frozen

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        self.weights.recall(memory)
        for name, digest in self._frozen.items():
            if name in memory and not torch.equal(memory[name].cpu(), digest):
                raise ValueError(
                    f"teacher: the frozen network of {name.partition('/')[2]} is not the one that this stage began"
                    " with; put the file of its weights back as it was, or train anew in another run.dir"
                )

    @cached_property
    def _frozen(self) -> dict[str, Tensor]:
        """Digests of the networks that never change: they are rebuilt from their files, not from checkpoints."""
        found: dict[str, nn.Module] = {}
        for ingredient in self.ingredients:
            found |= getattr(ingredient, "frozen", {})
        return {f"frozen/{name}": _digest(network) for name, network in found.items()}

    def step(self, micro: Sequence[Pair]) -> Losses:
        """Gradients of one optimiser step, summed over its micro-batches."""
        return self.take(micro, self.prepare(micro))

    def prepare(self, micro: Sequence[Pair]) -> Drawn:
        """Everything that labels, images and positions decide without a network: looks, mixed images, masks."""
        number = micro[0].source.positions[0] // self.images_per_step
        if number == 0:
            self.teacher.start()
        known, counts = sources_of(micro, number, self.student)
        sights = []
        for pair, count in zip(micro, counts, strict=True):
            assert pair.target is not None
            scene = Scene(known, pair.source, pair.target, truth_of(pair, self.student), count)
            sights.append([ingredient.draw(scene, self.student) for ingredient in self.ingredients])
        share = torch.tensor(self.teacher.share(number), dtype=torch.float64)
        sent_share = sent(share, self.student.passes.runtime.device)
        return Drawn(known, counts, sights, sent_share, self.weights.slot(number))

    def take(self, micro: Sequence[Pair], prepared: Drawn) -> Losses:
        """The average, the teacher's labels, and every pass of the student."""
        self.teacher.update(prepared.share)
        losses = Losses()
        moments = self._moments(micro, prepared, losses)
        for ingredient in self.ingredients:
            ingredient.prepare(moments, self.student.passes)
        for moment, sights in zip(moments, prepared.sights, strict=True):
            for ingredient, sight in zip(self.ingredients, sights, strict=True):
                last = moment is moments[-1] and ingredient is self.ingredients[-1]
                with ddp.sync_if(self.student.segmenter, last):
                    loss, parts = ingredient.loss(moment, self.student, sight)
                    self.student.passes.backward(loss)
                add_losses(losses, parts)
        return losses

    def _moments(self, micro: Sequence[Pair], drawn: Drawn, figures: Losses) -> list[Moment]:
        """Every micro-batch with the teacher's labels; ``figures`` gets what is worth a line in the log."""
        passes = self.student.passes
        targets = [pair.target for pair in micro if pair.target]
        guesses = [self._label(target) for target in targets]
        trusted = [passes.weights(target.weights) for target in targets]
        weights = self.weights.of_step(drawn.slot, guesses, trusted, figures)
        return [
            Moment(drawn.known, pair.source, target, truth_of(pair, self.student), count, said.labels, weight)
            for pair, target, count, said, weight in zip(micro, targets, drawn.counts, guesses, weights, strict=True)
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


def sources_of(micro: Sequence[Pair], step: int, student: Student) -> tuple[Known, list[Tensor]]:
    """What is known of a step from its source labels alone; and of each micro-batch the pixels of its classes."""
    passes, classes = student.passes, student.num_classes
    truths = [truth_of(pair, student) for pair in micro]
    counts = [classmix.class_counts(truth, classes) for truth in truths]
    of_step = collectives.all_reduce_(torch.stack([count.sum(0) for count in counts]).sum(0))
    labelled = of_step[:classes].sum().double().clamp_min(1) / passes.runtime.world
    pixels = float(sum(truth.numel() for truth in truths))  # as many on every rank
    return Known(step, of_step, pixels, labelled), counts


def truth_of(pair: Pair, student: Student) -> Tensor:
    """The source's labels, uint8 ``[n, H, W]``, on the device."""
    assert pair.source.labels is not None
    return student.passes.labels(pair.source.labels)


def _digest(network: nn.Module) -> Tensor:
    """uint8 ``[32]``, the SHA-256 of its weights and buffers."""
    return torch.tensor(list(bytes.fromhex(weights_sha256(network.state_dict()))), dtype=torch.uint8)
