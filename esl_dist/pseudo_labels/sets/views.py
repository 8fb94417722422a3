"""A network seen through several views of each image: the mean of the class probabilities over mirror images and
scales.

The mean is handed on as its logarithm, whose softmax it is, so that everything behind a forward (spool, scores,
thresholds) works on it as on any network's logits. Averaging probabilities over mirror and scales is what a label's
confidence gains most by (see ``docs/explanation/selection.md``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.pseudo_labels.scores.constants import TINY
from esl_dist.pseudo_labels.sets.forward import Forward


@dataclass(frozen=True)
class Views:
    """Which views are averaged; one of them is enough."""

    mirror: bool = False
    scales: tuple[float, ...] = (1.0,)
    """Factors of the input size."""

    @staticmethod
    def of(setting: PseudoLabelConfig) -> Views:
        """The views that a rule looks through: those of the options for ``views``, the image alone for any other."""
        return Views(setting.views_mirror, setting.views_scales) if setting.rule == "views" else Views()

    @property
    def plain(self) -> bool:
        """Whether it is the image as it is, and nothing else."""
        return self == Views()

    def __str__(self) -> str:
        return ("mirror " if self.mirror else "") + " ".join(f"x{scale:g}" for scale in self.scales)

    def through(self, forward: Forward) -> Forward:
        """``forward`` as the logarithm of the mean probabilities, at the resolution of the first scale's logits."""
        return forward if self.plain else lambda images: self._mean(forward, images)

    def _mean(self, forward: Forward, images: Tensor) -> Tensor:
        total: Tensor | None = None
        for scale in self.scales:
            view = resized(images, scale)
            for mirrored in (False, True)[: 1 + self.mirror]:
                logits = forward(view.flip(-1) if mirrored else view).float()
                prob = torch.softmax(logits.flip(-1) if mirrored else logits, 1)
                if total is not None and prob.shape != total.shape:
                    prob = functional.interpolate(prob, total.shape[-2:], mode="bilinear", align_corners=True)
                total = prob if total is None else total + prob
        assert total is not None
        return (total / (len(self.scales) * (1 + self.mirror))).clamp_min(TINY).log()


def resized(images: Tensor, scale: float) -> Tensor:
    """uint8 images ``[B, 3, H, W]`` at another size, as a photograph would be: bilinear, antialiased, rounded."""
    if scale == 1:
        return images
    size = [round(scale * length) for length in images.shape[-2:]]
    return (
        functional.interpolate(images.float(), size, mode="bilinear", align_corners=False, antialias=True)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
    )
