"""The network that trains, as an ingredient uses it: a look at some images, and a loss on what it says of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from esl_dist.data.prefetch import sent
from esl_dist.distributed import ddp
from esl_dist.engine.step import Losses
from esl_dist.methods.draws import Draws, Keys
from esl_dist.methods.passes import Passes, Prediction, cross_entropy, detail_loss
from esl_dist.methods.teacher.draws import stream
from esl_dist.methods.teacher.moment import Moment, Scene, Sight
from esl_dist.methods.teacher.photometric import Photometric, augmented, look
from esl_dist.models.segmenter import Segmenter


@dataclass
class Student:
    """The wrapped segmenter and how it is run in a step."""

    segmenter: nn.Module
    passes: Passes
    num_classes: int
    seed: int
    mean: Literal["pixels", "valid"]
    aux_weight: float = 0.1
    detail_weight: float = 0.1
    """Share of the loss that falls on the close look of a network with two resolutions (HRDA)."""
    parity: bool = False
    """A loss's weight leaves its detail part as it is (MIC's code)."""

    def patch_grid(self, size_hw: tuple[int, int]) -> tuple[int, int] | None:
        """Rows and columns of the patches that the network can be blind to; None where it has no mask token."""
        grid: Callable[[int, int], tuple[int, int]] | None = getattr(ddp.inner(self.segmenter), "patch_grid", None)
        return None if grid is None else grid(*size_hw)

    def see(
        self, images: Tensor, moment: Moment, purpose: str, features: bool = False, mask: Tensor | None = None
    ) -> Prediction:
        """A forward of RGB images ``[n, 3, H, W]``, uint8 or floating in 0-255, with a graph."""
        return self.show(Sight(images, self.keys(moment, purpose), hidden=mask), features)

    def show(self, sight: Sight, features: bool = False) -> Prediction:
        """A forward of what was drawn for a pass, with a graph."""
        return self.passes.forward(self.segmenter, sight.images, features, sight.keys, sight.hidden)

    def keys(self, moment: Moment | Scene, purpose: str) -> Keys | None:
        """``purpose`` names the pass: what the network drops is drawn for (seed, purpose, position of the image), and
        what all images share, such as where HRDA looks closely, for (seed, purpose, step).
        """
        return self.passes.keys(self.segmenter, Draws(purpose, moment.known.step, moment.target.positions))

    @contextlib.contextmanager
    def looking(self) -> Iterator[nn.Module]:
        """The network as it would be used now: nothing dropped, batch norm by its running averages, no gradient."""
        network = ddp.inner(self.segmenter)
        training = network.training
        network.eval()
        try:
            with torch.no_grad():
                yield network
        finally:
            network.train(training)

    def cross_entropy(
        self,
        said: Prediction,
        labels: Tensor,
        total: Tensor | float,
        name: str,
        weights: Tensor | None = None,
        weight: float = 1.0,
    ) -> tuple[Tensor, Losses]:
        """``weight`` times the sum over pixels of ``weights * CE``, divided by ``total``; and its parts without
        ``weight``, ``<name>_main`` and others.

        With a close look at a part: ``(1 - d) CE(fused) + d CE(detail)``, the second over the part.
        """
        loss, parts = cross_entropy(said, labels, total, (1.0, self.aux_weight), name, weights)
        detail = detail_loss(said, labels, total, weights)
        if detail is None:
            return weight * loss, parts
        of_detail = self.detail_weight * (1.0 if self.parity else weight)
        parts[f"{name}_detail"] = detail.detach()
        return (1 - self.detail_weight) * weight * loss + of_detail * detail, parts

    def source_total(self, moment: Moment) -> Tensor | float:
        """What the source's sum is divided by: all of its pixels, or the labelled ones."""
        return moment.known.pixels if self.mean == "pixels" else moment.known.labelled

    def looked(
        self,
        images: Tensor,
        setting: Photometric | None,
        moment: Moment | Scene,
        positions: Sequence[int],
        purpose: str,
    ) -> Tensor:
        """Images in 0-255 after jitter and blur, drawn for ``purpose``: floating, or as they are without a setting."""
        if setting is None:
            return images
        seed = stream(self.seed, purpose)
        looks = [look(setting, seed, moment.known.step, position) for position in positions]
        return augmented(images.float() / 255, looks, setting.colours) * 255

    def mean_rgb(self) -> Tensor:
        """The colour that normalisation makes 0, ``[3]`` in 0-255."""
        network = ddp.inner(self.segmenter)
        assert isinstance(network, Segmenter)
        mean_bgr = network.normalisation.in_bgr().mean
        return sent(torch.tensor(mean_bgr[::-1]), self.passes.runtime.device)
