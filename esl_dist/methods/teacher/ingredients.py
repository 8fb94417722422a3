"""The passes of a step, each a forward of the student and a loss on it. A method is a list of them.

Every sum is divided by a number of the global batch, so N ranks, micro-batches or one process give one gradient. The
first is always the source, the last reaches every head.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from esl_dist.data.prefetch import sent
from esl_dist.distributed import collectives
from esl_dist.engine.step import Losses
from esl_dist.losses.feature_distance import pooled_labels, positions_of, thing_distance
from esl_dist.methods.passes import Passes
from esl_dist.methods.teacher.classmix import Classes, draw_classes, listed, paste_mask
from esl_dist.methods.teacher.draws import stream
from esl_dist.methods.teacher.masks import block_mask, masked
from esl_dist.methods.teacher.moment import Moment, Scene, Sight
from esl_dist.methods.teacher.photometric import Photometric
from esl_dist.methods.teacher.student import Student
from esl_dist.models.segmenter import Segmenter


class Ingredient(Protocol):
    """One pass of the student."""

    def draw(self, scene: Scene, student: Student) -> Sight | None:
        """What the student is shown, and all else that is drawn on the host: called before a step, which may then be
        captured. None where the pass draws for itself.
        """

    def prepare(self, moments: Sequence[Moment], passes: Passes) -> None:
        """Called by all ranks before the first pass of a step, with all of its micro-batches."""

    def loss(self, moment: Moment, student: Student, sight: Sight | None) -> tuple[Tensor, Losses]:
        """This micro-batch's summand of the step's loss, and its parts by name; ``sight`` is what ``draw`` gave."""


@dataclass
class FeatureDistance:
    """Thing features near those of a frozen ``reference`` (DAFormer), read off the source's own pass."""

    reference: Segmenter
    weight: float
    share: float
    classes: Sequence[int]
    num_classes: int
    _count: Tensor | None = None

    def prepare(self, moments: Sequence[Moment], passes: Passes) -> None:
        """Count the positions of the whole step, which labels alone decide."""
        count = torch.zeros((), dtype=torch.float64, device=passes.runtime.device)
        for moment in moments:
            count += self._where(moment).sum()
        self._count = collectives.all_reduce_(count).clamp_min_(1).div_(passes.runtime.world)

    def loss(self, features: Tensor, moment: Moment, passes: Passes) -> tuple[Tensor, Losses]:
        assert self._count is not None
        reference = passes.features(self.reference, moment.source.images)
        distance = thing_distance(features, reference, self._where(moment), self._count)
        return self.weight * distance, {"feature_distance": distance.detach()}

    def _where(self, moment: Moment) -> Tensor:
        height, width = moment.truth.shape[1:]
        grid = self.reference.feature_size((height, width))
        return positions_of(pooled_labels(moment.truth, grid, self.num_classes, self.share), self.classes)


@dataclass
class Source:
    """Cross-entropy on source labels, and what is asked of the features of the same pass."""

    look: Photometric | None = None
    distance: FeatureDistance | None = None

    @property
    def frozen(self) -> Mapping[str, nn.Module]:
        """Networks that never change, by the name of what needs them."""
        return {"feature_distance": self.distance.reference} if self.distance else {}

    def prepare(self, moments: Sequence[Moment], passes: Passes) -> None:
        if self.distance:
            self.distance.prepare(moments, passes)

    def draw(self, scene: Scene, student: Student) -> Sight:
        images = student.passes.labels(scene.source.images)
        images = student.looked(images, self.look, scene, scene.source.positions, "source")
        return Sight(images, student.keys(scene, "source"))

    def loss(self, moment: Moment, student: Student, sight: Sight | None) -> tuple[Tensor, Losses]:
        assert sight is not None
        said = student.show(sight, features=self.distance is not None)
        loss, parts = student.cross_entropy(said, moment.truth, student.source_total(moment), "source")
        if self.distance:
            assert said.features is not None
            distance, named = self.distance.loss(said.features, moment, student.passes)
            loss, parts = loss + distance, parts | named
        return loss, parts


@dataclass
class Mix:
    """Cross-entropy on target images with half of the source's classes pasted in (DACS)."""

    weight: float
    classes: Classes
    look: Photometric | None
    target_look: Photometric | None = None
    """Of the target before pasting (VFM-UDA's weak one)."""

    def prepare(self, moments: Sequence[Moment], passes: Passes) -> None:
        pass

    def draw(self, scene: Scene, student: Student) -> Sight:
        present = listed(scene.counts, scene.known.counts, self.classes)
        chosen = draw_classes(present, stream(student.seed, "classes"), scene.source.positions)
        pasted = paste_mask(scene.truth, chosen)
        source, target = (student.passes.labels(batch.images) for batch in (scene.source, scene.target))
        target = student.looked(target, self.target_look, scene, scene.target.positions, "weak")
        images = torch.where(pasted[:, None], source.to(target.dtype), target)
        images = student.looked(images, self.look, scene, scene.target.positions, "mix")
        return Sight(images, student.keys(scene, "mix"), pasted)

    def loss(self, moment: Moment, student: Student, sight: Sight | None) -> tuple[Tensor, Losses]:
        assert sight is not None and sight.of_source is not None
        labels = torch.where(sight.of_source, moment.truth, moment.guess)
        weights = torch.where(sight.of_source, 1.0, moment.weight)
        said = student.show(sight)
        return student.cross_entropy(said, labels, moment.known.pixels, "mix", weights, self.weight)


@dataclass
class Mask:
    """Cross-entropy on masked images: the teacher saw all of the picture (MIC)."""

    weight: float
    ratio: float
    block: int
    images: str
    """``target``, or ``both``: source images at even positions of the stream, target images at odd ones."""
    look: Photometric | None
    tokens: bool = False
    """Patches of a network with a mask token in place of blocks of pixels (VFM-UDA)."""

    def prepare(self, moments: Sequence[Moment], passes: Passes) -> None:
        pass

    def draw(self, scene: Scene, student: Student) -> Sight:
        positions, images, of_source = scene.target.positions, student.passes.labels(scene.target.images), None
        if self.images == "both":
            even = torch.tensor([position % 2 == 0 for position in positions])
            of_source = sent(even, images.device)[:, None, None]
            images = torch.where(of_source[:, None], student.passes.labels(scene.source.images), images)
        images = student.looked(images, self.look, scene, positions, "mask look")
        size, seed = (images.shape[2], images.shape[3]), stream(student.seed, "mask")
        grid = student.patch_grid(size) if self.tokens else None
        keys = student.keys(scene, "mask")
        if grid is not None:
            keep = sent(block_mask(grid, 1, self.ratio, seed, positions)[:, 0], images.device)
            return Sight(images, keys, of_source, ~keep)
        keep = sent(block_mask(size, self.block or max(1, size[0] // 16), self.ratio, seed, positions), images.device)
        return Sight(masked(images.float(), keep, student.mean_rgb()), keys, of_source)

    def loss(self, moment: Moment, student: Student, sight: Sight | None) -> tuple[Tensor, Losses]:
        assert sight is not None
        labels, weights = moment.guess, moment.weight
        if sight.of_source is not None:
            labels = torch.where(sight.of_source, moment.truth, labels)
            weights = torch.where(sight.of_source, 1.0, weights)
        said = student.show(sight)
        return student.cross_entropy(said, labels, moment.known.pixels, "mask", weights, self.weight)


@dataclass
class Own:
    """A user's own function of a micro-batch and the student: a sum divided by a number of the global batch."""

    name: str
    function: Callable[[Moment, Student], Tensor]

    @classmethod
    def load(cls, name: str) -> Own:
        """``package.module:function``. ``ValueError`` where it cannot be imported."""
        module, _, function = name.partition(":")
        try:
            found: Any = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"teacher.ingredients: cannot import {name!r}: {error}; the module must be on PYTHONPATH"
            ) from None
        return cls(function, found)

    def draw(self, scene: Scene, student: Student) -> None:
        return None

    def prepare(self, moments: Sequence[Moment], passes: Passes) -> None:
        pass

    def loss(self, moment: Moment, student: Student, sight: Sight | None) -> tuple[Tensor, Losses]:
        loss = self.function(moment, student)
        return loss, {self.name: loss.detach()}
