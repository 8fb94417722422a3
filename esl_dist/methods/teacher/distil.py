"""Features of source and target near those of a frozen foundation model (VFM-UDA++, sec. 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from esl_dist.data.loader import Batch
from esl_dist.distributed import ddp
from esl_dist.engine.step import Losses
from esl_dist.losses.feature_distance import token_distance
from esl_dist.methods.passes import Passes
from esl_dist.methods.teacher.moment import Moment, Scene, Sight
from esl_dist.methods.teacher.photometric import Photometric
from esl_dist.methods.teacher.student import Student
from esl_dist.models import Segmenter


@dataclass
class Distil:
    """One domain's pass: the student's features of an augmented image against the reference's of the image itself."""

    domain: Literal["source", "target"]
    reference: nn.Module
    """Frozen, on the device."""
    head: nn.Module
    """From the student's features to the reference's; trains, wrapped. Both domains share it."""
    weight: float
    look: Photometric | None
    _last: Moment | None = None
    _micro: int = 1

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """What trains beside the student."""
        return {"distil": self.head}

    @property
    def frozen(self) -> Mapping[str, nn.Module]:
        """Networks that never change, by the name of what needs them."""
        return {"distil": self.reference}

    def prepare(self, moments: Sequence[Moment], passes: Passes) -> None:
        self._last, self._micro = moments[-1], len(moments)

    def draw(self, scene: Scene, student: Student) -> Sight:
        batch, purpose = self._batch(scene), f"distil {self.domain}"
        seen = student.looked(student.passes.labels(batch.images), self.look, scene, batch.positions, purpose)
        return Sight(seen, student.keys(scene, purpose))

    def loss(self, moment: Moment, student: Student, sight: Sight | None) -> tuple[Tensor, Losses]:
        assert sight is not None
        passes = student.passes
        expected = self._expected(passes.labels(self._batch(moment).images), student)
        features = student.show(sight, features=True).features
        if isinstance(self.head, DistributedDataParallel):
            # The head's own last backward of the step carries its gradients; the step says when the student's does.
            self.head.require_backward_grad_sync = moment is self._last and self.domain == "target"
        with passes.runtime.autocast():
            said = self.head(features)
        distance = token_distance(said, expected)
        mean = distance.sum() / (distance.numel() * self._micro)
        return self.weight * mean, {f"distil_{self.domain}": mean.detach()}

    def _batch(self, moment: Moment | Scene) -> Batch:
        return moment.source if self.domain == "source" else moment.target

    def _expected(self, images: Tensor, student: Student) -> Tensor:
        network = ddp.inner(student.segmenter)
        assert isinstance(network, Segmenter)
        with torch.no_grad(), student.passes.runtime.autocast():
            like = next(self.reference.parameters())
            found: Tensor = self.reference(network.normalisation.of_values(images.to(like.dtype)))
        return found
