"""The network that trains, as an ingredient uses it: a look at some images, and a loss on what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from esl_dist.methods.teacher.draws import stream
from esl_dist.methods.teacher.moment import Moment
from esl_dist.methods.teacher.photometric import Photometric, augmented, look
from esl_dist.stages.passes import Losses, Passes, Prediction, cross_entropy


@dataclass
class Student:
    """The wrapped segmenter and how it is run in a step."""

    segmenter: nn.Module
    passes: Passes
    num_classes: int
    seed: int
    aux_weight: float
    mean: Literal["pixels", "valid"]

    def see(self, images: Tensor, moment: Moment, purpose: str, features: bool = False) -> Prediction:
        """A forward of RGB images ``[n, 3, H, W]``, uint8 or floating in 0-255, with a graph.

        ``purpose`` names the pass: whatever the network draws in it is drawn for (seed, purpose, step, position).
        """
        return self.passes.forward(self.segmenter, images, features)

    def cross_entropy(
        self, prediction: Prediction, labels: Tensor, total: Tensor | float, name: str, weights: Tensor | None = None
    ) -> tuple[Tensor, Losses]:
        """Sum over pixels of ``weight * CE``, divided by ``total``; every head and its parts as ``<name>_<head>``."""
        heads = (1.0, self.aux_weight)
        return cross_entropy(prediction, labels, self._number(total), heads, name, weights)

    def source_total(self, moment: Moment) -> Tensor | float:
        """What the source's sum is divided by: all of its pixels, or the labelled ones."""
        return moment.known.pixels if self.mean == "pixels" else moment.known.labelled

    def looked(
        self, images: Tensor, setting: Photometric | None, moment: Moment, positions: Sequence[int], purpose: str
    ) -> Tensor:
        """Images in 0-255 after jitter and blur, drawn for ``purpose``: floating, or as they are without a setting."""
        if setting is None:
            return images
        seed = stream(self.seed, purpose)
        looks = [look(setting, seed, moment.known.step, position) for position in positions]
        return augmented(images.float() / 255, looks, setting.colours) * 255

    def mean_rgb(self) -> Tensor:
        """The colour that normalisation makes 0, ``[3]`` in 0-255."""
        return torch.tensor(self.passes.mean[::-1], dtype=torch.float32, device=self.passes.runtime.device)

    def _number(self, total: Tensor | float) -> Tensor:
        if isinstance(total, Tensor):
            return total
        return torch.tensor(total, dtype=torch.float64, device=self.passes.runtime.device)
