"""The part of an adaptation step that DRSL's second head adds: a metric loss on sampled pixels, and the alignment of
modes.

In one step, on pixels drawn from the labels before any forward:

1. source: cross-entropy and hinge on labelled pixels; some of their embeddings, detached, go to all ranks (the pool);
2. target: each pixel goes to its nearest mode - of its pseudo-label's class in self-training, of any class without
labels - and
   the base is asked to bring it nearer to the pool's members of that mode; in self-training the metric loss as well.

The pool is that of one micro-batch, over all ranks: N ranks equal one process with the same images. With
``optim.accumulate`` a micro-batch's target pixels meet the source pixels of their own micro-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from esl_dist.config.modes import MmdlConfig
from esl_dist.data.loader import Batch
from esl_dist.data.pixels import Pixels, image_keys, on_grid, sample
from esl_dist.distributed import collectives, ddp
from esl_dist.engine.step import Losses, Pair
from esl_dist.labels import IGNORE
from esl_dist.losses.mmdl import (
    NO_MODE,
    Moments,
    mode_alignment,
    mode_balance,
    mode_cross_entropy,
    mode_hinge,
    mode_moments,
    modes_of,
    squared_distances,
    usage_entropy,
    without,
)
from esl_dist.methods.passes import Passes, Prediction, frozen
from esl_dist.models.mmdl import Embedded, ModeHead

_STREAM = 1 << 21
"""Keeps these draws apart from those of order and augmentation."""


@dataclass
class Sampled:
    """The pixels of one micro-batch, and what its source pass leaves to its target pass."""

    source: Pixels
    target: Pixels
    valid_source: Tensor
    """Sampled pixels of the global batch (all micro-batches) divided by the world size, as in
    ``Passes.globally_valid``.
    """
    valid_target: Tensor
    share: float
    """Of this micro-batch in the step's figures."""
    pool: Moments | None = None


class PixelKeys(NamedTuple):
    """What the pixels of a micro-batch are drawn by, int64 ``[n]`` each (``data.pixels.image_keys``)."""

    source: Tensor
    target: Tensor


@dataclass
class Modes:
    """The wrapped head and its losses; ``learns_target`` where target batches carry pseudo-labels."""

    head: nn.Module
    config: MmdlConfig
    passes: Passes
    class_names: Sequence[str]
    seed: int
    grid: Callable[[tuple[int, int]], tuple[int, int]]
    """From the size of an image, (H, W), to that of its features."""
    learns_target: bool

    @property
    def trains_on_target(self) -> bool:
        """Whether the head itself learns from target images."""
        return self.learns_target and self.config.weight_target > 0

    @property
    def on_target(self) -> bool:
        """Whether any loss looks at target images."""
        return self.config.align_weight > 0 or self.trains_on_target

    def keys(self, pair: Pair) -> PixelKeys:
        """What the pixels of a micro-batch are drawn by."""
        assert pair.target is not None
        device = self.passes.runtime.device
        return PixelKeys(
            image_keys(2 * self.seed + _STREAM, pair.source.positions, device),
            image_keys(2 * self.seed + 1 + _STREAM, pair.target.positions, device),
        )

    def sample(self, micro: Sequence[Pair], keys: Sequence[PixelKeys]) -> list[Sampled]:
        """The pixels of a whole step: they depend on labels and positions alone, so their number is known to all ranks
        beforehand.
        """
        source = [self._sample(pair.source, True, own.source) for pair, own in zip(micro, keys, strict=True)]
        target = [
            self._sample(pair.target, self.learns_target, own.target)
            for pair, own in zip(micro, keys, strict=True)
            if pair.target
        ]
        valid_source, valid_target = (
            self.passes.globally_valid([pixels.labels for pixels in domain], IGNORE) for domain in (source, target)
        )
        return [Sampled(s, t, valid_source, valid_target, 1 / len(micro)) for s, t in zip(source, target, strict=True)]

    def _sample(self, batch: Batch, labelled: bool, keys: Tensor) -> Pixels:
        size = self.grid((batch.images.shape[2], batch.images.shape[3]))
        if not labelled:
            nothing = torch.zeros((len(batch.images), *size), dtype=torch.uint8, device=keys.device)
            return sample(nothing, 1, self.config.samples, keys)
        assert batch.labels is not None
        labels = on_grid(self.passes.labels(batch.labels), size)
        return sample(labels, len(self.class_names), self.config.samples, keys)

    def source_loss(self, source: Prediction, sampled: Sampled) -> tuple[Tensor, Losses]:
        """Weighted metric loss of this rank's source pixels, and its parts; ``sampled.pool`` is filled."""
        embedded, squared = self._distances(self.head, source, sampled.source)
        loss, parts = self._metric(squared, sampled.source.labels, sampled.valid_source, "source")
        balance = mode_balance(
            squared, sampled.source.labels, self._inner.shares(), self.config.sigma, sampled.valid_source
        )
        parts["mmdl_source_balance"] = balance.detach()
        sampled.pool = self._pool(embedded, modes_of(squared, sampled.source.labels))
        return self.config.weight * (loss + self.config.balance * balance), parts

    def target_loss(self, target: Prediction, sampled: Sampled) -> tuple[Tensor, Losses]:
        """Weighted metric and alignment loss of this rank's target pixels, and their parts.

        Alignment moves the base: the head, frozen in it, could have it for nothing by drawing the whole space together.
        """
        total, parts = target.zero(), Losses()
        if self.trains_on_target:
            _, squared = self._distances(self.head, target, sampled.target)
            loss, parts = self._metric(squared, sampled.target.labels, sampled.valid_target, "target")
            total = total + self.config.weight_target * loss
        with frozen([self.head]):
            embedded, squared = self._distances(ddp.inner(self.head), target, sampled.target)
        nearest = modes_of(squared, sampled.target.labels if self.learns_target else None)
        modes = torch.where(sampled.target.labels == IGNORE, NO_MODE, nearest)
        assert sampled.pool is not None
        distance, partnered = mode_alignment(embedded.pixels, modes, sampled.pool)
        if self.config.align_weight > 0:
            loss = distance.sum() / sampled.valid_target
            parts["mode_alignment"] = loss.detach()
            total = total + self.config.align_weight * loss
        apart, _ = mode_alignment(embedded.pixels.detach(), modes, without(sampled.pool))
        pairs = partnered.sum()
        parts |= {
            "modes/within": sampled.share * distance.detach().sum() / pairs,
            "modes/between": sampled.share * (apart * partnered).sum() / pairs,
        }
        return total, parts

    def finish(self, drawn: Sequence[Sampled]) -> Losses:
        """After a step: remember which modes it used. Returns how evenly those of each class are used of late."""
        members = torch.stack([d.pool.members for d in drawn if d.pool]).sum(0)
        self._inner.remember(members.view(self._inner.usage.shape))
        used = usage_entropy(self._inner.usage)
        return {f"modes/entropy/{name}": value for name, value in zip(self.class_names, used, strict=True)}

    @property
    def _inner(self) -> ModeHead:
        head = ddp.inner(self.head)
        assert isinstance(head, ModeHead)
        return head

    def _distances(self, head: nn.Module, prediction: Prediction, pixels: Pixels) -> tuple[Embedded, Tensor]:
        assert prediction.features is not None
        embedded = self.passes.embed(head, prediction.features, pixels.where)
        return embedded, squared_distances(embedded.pixels, embedded.representatives)

    def _metric(self, squared: Tensor, labels: Tensor, valid: Tensor, domain: str) -> tuple[Tensor, Losses]:
        entropy = mode_cross_entropy(squared, labels, self.config.sigma, valid)
        hinge = mode_hinge(squared, labels, self.config.margin, valid)
        return entropy + hinge, {f"mmdl_{domain}": entropy.detach(), f"mmdl_{domain}_hinge": hinge.detach()}

    def _pool(self, embedded: Embedded, modes: Tensor) -> Moments:
        """The first ``pool`` pixels of every source image of every rank: their classes are as balanced as
        the sample's.
        """
        pixels, modes = embedded.pixels.detach()[:, : self.config.pool], modes[:, : self.config.pool]
        packed = torch.cat(
            [pixels, modes[..., None].to(pixels.dtype)], dim=-1
        )  # one collective; a mode's number is exact as a float
        everyone = collectives.all_gather(packed).flatten(0, -2)
        return mode_moments(everyone[:, :-1], everyone[:, -1].long(), embedded.representatives.shape[:2].numel())
