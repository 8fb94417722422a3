"""From an image to what the network says of each of its pixels, whole or by windows that slide over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from esl_dist.data.transforms import Fit, cut_padding, fit_image
from esl_dist.metrics.sliding import starts
from esl_dist.metrics.upsample import upsampled_argmax
from esl_dist.pseudo_labels.scores.scorer import Wanted, scoring

Image = NDArray[np.uint8]
Network = Callable[[Tensor], Tensor]
"""uint8 RGB ``[B, 3, H, W]`` to float32 logits ``[B, C, h, w]``."""


class Predicted(NamedTuple):
    """Of one image, at its own size."""

    label: Image
    """uint8 train ids ``[H, W]``."""
    confidence: NDArray[np.float32] | None = None
    """Probability of the label, 0-1."""
    entropy: NDArray[np.float32] | None = None
    """Of the class probabilities, divided by its maximum: 0-1, small where the network is sure."""


@dataclass(frozen=True)
class Whole:
    """Every image fitted to one size, its logits scaled back: as evaluation does it.

    Args:
        size: width and height that the network sees.
        batch: images of one forward; the bits depend on it, so fewer images are filled up.
        maps: whether confidence and entropy are wanted.
    """

    network: Network
    size: tuple[int, int]
    fit: Fit
    batch: int
    maps: bool = False

    def inputs(self, image: Image) -> list[Tensor]:
        """What the network sees of an image: uint8 ``[3, H, W]``."""
        return [fit_image(image, self.size, self.fit)]

    def __call__(self, images: Sequence[Image]) -> list[Predicted]:
        """At most ``batch`` images."""
        logits = self.network(filled([self.inputs(image)[0] for image in images], self.batch))
        return [self._of(logits[slot], image) for slot, image in enumerate(images)]

    def _of(self, logits: Tensor, image: Image) -> Predicted:
        height, width = image.shape[:2]
        logits = cut_padding(logits, (width, height), self.size, self.fit).contiguous()
        label = upsampled_argmax(logits, (width, height)).cpu().numpy()
        if not self.maps:
            return Predicted(label)
        wanted = Wanted((height, width), ("entropy", "probability"))
        maps = scoring("exact", logits.device).score(logits, wanted).maps
        return Predicted(label, maps["probability"].cpu().numpy(), maps["entropy"].cpu().numpy())


@dataclass(frozen=True)
class Windows:
    """Windows at the image's own scale, overlapping by a third or more; the probabilities of all that see a pixel are
    averaged.

    Args:
        size: width and height of a window; a smaller image is filled up by its own border.
    """

    network: Network
    size: tuple[int, int]
    batch: int
    maps: bool = False

    def inputs(self, image: Image) -> list[Tensor]:
        pixels, places = self._cut(image)
        width, height = self.size
        return [pixels[:, top : top + height, left : left + width].contiguous() for top, left in places]

    def __call__(self, images: Sequence[Image]) -> list[Predicted]:
        return [self._of(image) for image in images]

    def _cut(self, image: Image) -> tuple[Tensor, list[tuple[int, int]]]:
        """The image, filled up to a window at least, uint8 ``[3, H, W]``; and (top, left) of its windows."""
        width, height = self.size
        below, right = max(height - image.shape[0], 0), max(width - image.shape[1], 0)
        padded = np.pad(image, ((0, below), (0, right), (0, 0)), mode="edge") if below or right else image
        rows, columns = _starts(padded.shape[0], height), _starts(padded.shape[1], width)
        return torch.from_numpy(np.ascontiguousarray(padded)).permute(2, 0, 1), [
            (top, left) for top in rows for left in columns
        ]

    @torch.inference_mode()
    def _of(self, image: Image) -> Predicted:
        pixels, found = self._cut(image)
        width, height = self.size
        inputs = self.inputs(image)
        total: Tensor | None = None
        count = torch.zeros(pixels.shape[1:])
        for first in range(0, len(found), self.batch):
            logits = self.network(filled(inputs[first : first + self.batch], self.batch))
            for slot, (top, left) in enumerate(found[first : first + self.batch]):
                large = F.interpolate(
                    logits[slot : slot + 1].float(), (height, width), mode="bilinear", align_corners=True
                )
                prob = large.softmax(1)[0].cpu()
                if total is None:
                    total = torch.zeros((len(prob), *pixels.shape[1:]))
                total[:, top : top + height, left : left + width] += prob
                count[top : top + height, left : left + width] += 1
        assert total is not None
        mean = (total / count)[:, : image.shape[0], : image.shape[1]]
        confidence, label = mean.max(0)
        if not self.maps:
            return Predicted(label.to(torch.uint8).numpy())
        entropy = -torch.special.xlogy(mean, mean).sum(0) / np.log(len(mean))
        return Predicted(label.to(torch.uint8).numpy(), confidence.numpy(), entropy.clamp(0, 1).numpy())


def filled(images: Sequence[Tensor], batch: int) -> Tensor:
    """uint8 ``[batch, 3, H, W]``: the images, then zeros."""
    assert 0 < len(images) <= batch
    made = torch.zeros((batch, *images[0].shape), dtype=torch.uint8)
    for slot, image in enumerate(images):
        made[slot] = image
    return made


def _starts(side: int, window: int) -> list[int]:
    """Where windows begin on a side: each overlaps the next by a third."""
    return starts(side, window, max(window - window // 3, 1))
