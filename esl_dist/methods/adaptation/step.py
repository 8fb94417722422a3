"""Adaptation: source supervision and a loss on target images in one step (AdaptSegNet, ADVENT, MinEnt, MaxSquare; SSL
and ESL).

One step, as in ADVENT's algorithm:

1. source forward: cross-entropy of both heads, backward;
2. target forward: alignment loss with the discriminators frozen, plus - in self-training - cross-entropy on
   pseudo-labels, backward;
3. each discriminator on the detached source and target maps, backward;
4. every optimiser steps (in ``engine/update.py``).

DRSL's second head adds its losses to the backwards of 1 and 2 (``stages/modes.py``).

Batch norm sees the source batch first and the target batch second, each with its own statistics.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from esl_dist.data.loader import Batch
from esl_dist.distributed import ddp
from esl_dist.distributed.lanes import Lanes
from esl_dist.engine.step import Losses, Pair
from esl_dist.methods.adaptation.modes import Modes, PixelKeys, Sampled
from esl_dist.methods.adaptation.objectives import Objective
from esl_dist.methods.draws import Draws, Keys, drawn_by, on_the_host, step_of
from esl_dist.methods.passes import Passes, Prediction, add_losses, heads_of, labelled_loss
from esl_dist.models import Segmenter
from esl_dist.monitor.profile import phase


@dataclass
class SelfTraining:
    """Weights of the cross-entropy on target pseudo-labels, main and aux head (ESL, eq. 6)."""

    weight: float
    weight_aux: float


class Drawn(NamedTuple):
    """What the host draws for a micro-batch."""

    source: Keys | None
    target: Keys | None
    """Of its passes."""
    pixels: PixelKeys | None
    """Of the pixels that DRSL's second head looks at."""


@dataclass
class Adaptation:
    """Alignment (``self_training`` None) or self-training with alignment kept on."""

    segmenter: nn.Module
    passes: Passes
    num_classes: int
    objective: Objective | None
    source_aux: float
    self_training: SelfTraining | None = None
    modes: Modes | None = None
    lanes: Lanes | None = None
    """The source and the target pass at a time, without ``modes``; None: one after the other."""
    needs_target: bool = True

    @property
    def host_work(self) -> str:
        return on_the_host(self.segmenter) or (self.objective.host_work if self.objective else "")

    @property
    def unmeasured(self) -> str:
        return "DRSL's second head" if self.modes else drawn_by(self.segmenter)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        discriminators = self.objective.discriminators if self.objective else {}
        head = {"mmdl": self.modes.head} if self.modes else {}
        return {
            "segmenter": self.segmenter,
            **head,
            **{f"d_{head}": network for head, network in discriminators.items()},
        }

    def step(self, micro: Sequence[Pair]) -> Losses:
        """Gradients of one optimiser step, summed over its micro-batches."""
        return self.take(micro, self.prepare(micro))

    def prepare(self, micro: Sequence[Pair]) -> list[Drawn]:
        number = step_of(micro[0].source.positions, len(micro), self.passes.runtime.world)
        return [
            Drawn(
                self._keys("source", number, pair.source),
                self._keys("target", number, pair.target),
                self.modes.keys(pair) if self.modes else None,
            )
            for pair in micro
        ]

    def _keys(self, purpose: str, number: int, batch: Batch | None) -> Keys | None:
        return None if batch is None else self.passes.keys(self.segmenter, Draws(purpose, number, batch.positions))

    def take(self, micro: Sequence[Pair], prepared: Sequence[Drawn]) -> Losses:
        valid_s = self.passes.globally_valid(
            (p.source.labels for p in micro if p.source.labels is not None), self.num_classes
        )
        valid_t = None
        if self.self_training:
            targets = [p.target for p in micro if p.target and p.target.labels is not None]
            valid_t = self.passes.globally_valid(
                (t.labels for t in targets if t.labels is not None), self.num_classes, (t.weights for t in targets)
            )
        keys = [drawn.pixels for drawn in prepared if drawn.pixels]
        sampled = self.modes.sample(micro, keys) if self.modes else [None] * len(micro)
        losses: Losses = {}
        for pair, drawn, pixels in zip(micro, prepared, sampled, strict=True):
            part = self._micro_step(pair, (valid_s, valid_t), drawn, pixels, 1 / len(micro), pair is micro[-1])
            add_losses(losses, part)
        if self.modes:
            losses.update(self.modes.finish([pixels for pixels in sampled if pixels]))
        return losses

    def _micro_step(
        self,
        pair: Pair,
        valid: tuple[Tensor, Tensor | None],
        drawn: Drawn,
        pixels: Sampled | None,
        share: float,
        last: bool,
    ) -> Losses:
        assert pair.target is not None and pair.source.labels is not None
        uses_modes = self.modes is not None and self.modes.on_target
        learns_target = self.objective is not None or self.self_training is not None or uses_modes

        learning = self.lanes if learns_target else None
        norms = _norms_of(self.segmenter) if learning else []
        with (
            learning.first(norms) if learning else contextlib.nullcontext(),
            ddp.sync_if(self.segmenter, last and not learns_target),
            self._sync_modes_if(last, on_target=False),
        ):
            source = self.passes.forward(self.segmenter, pair.source.images, self.modes is not None, drawn.source)
            loss, losses = labelled_loss(
                source, self.passes.labels(pair.source.labels), valid[0], (1.0, self.source_aux), "source"
            )
            if self.modes and pixels:
                metric, parts = self.modes.source_loss(source, pixels)
                loss = loss + metric
                losses.update(parts)
            self.passes.backward(loss)
        source = source.detached()

        if not learns_target:
            with torch.no_grad():  # the control: target batches move the batch-norm statistics and nothing else
                self.passes.forward(ddp.inner(self.segmenter), pair.target.images, keys=drawn.target)
            return losses

        pass_of_target = (pair.target, valid[1], drawn.target, pixels if uses_modes else None, share)
        if learning:
            parameters = [p for p in self.segmenter.parameters() if p.requires_grad]
            with learning.second(norms), ddp.sync_if(self.segmenter, False):
                target, loss, parts = self._target_pass(*pass_of_target)
                gradients = self.passes.gradients(loss, parameters)
            with ddp.sync_if(self.segmenter, last):
                ddp.add_gradients(self.segmenter, parameters, gradients)
        else:
            with ddp.sync_if(self.segmenter, last), self._sync_modes_if(last, on_target=True):
                target, loss, parts = self._target_pass(*pass_of_target)
                self.passes.backward(loss)
        target = target.detached()
        losses.update(parts)

        if self.objective:
            with phase("discriminator"):
                losses.update(
                    _scaled(self.objective.discriminator_pass(source, target, self.passes, share, last), share)
                )
        return losses

    def _target_pass(
        self, batch: Batch, valid: Tensor | None, keys: Keys | None, pixels: Sampled | None, share: float
    ) -> tuple[Prediction, Tensor, Losses]:
        target = self.passes.forward(self.segmenter, batch.images, pixels is not None, keys)
        total = target.zero()
        losses: Losses = {}
        if self.objective:
            loss, parts = self.objective.target_loss(target, self.passes)
            total = total + share * loss
            losses.update(_scaled(parts, share))
        if self.self_training:
            assert batch.labels is not None and valid is not None
            weights = (self.self_training.weight, self.self_training.weight_aux)
            loss, parts = labelled_loss(
                target, self.passes.labels(batch.labels), valid, weights, "target", self.passes.weights(batch.weights)
            )
            total = total + loss
            losses.update(parts)
        if self.modes and pixels:
            loss, parts = self.modes.target_loss(target, pixels)
            total = total + loss
            losses.update(parts)
        # DDP must see every parameter in the pass that it all-reduces, also a head that no term above looks at.
        return target, total + 0.0 * sum(head[..., 0, 0].sum() for head in heads_of(target.logits)), losses

    def _sync_modes_if(self, last: bool, on_target: bool) -> contextlib.AbstractContextManager[object]:
        """The second head's gradients are all-reduced in the last pass in which it learns."""
        return (
            ddp.sync_if(self.modes.head, last and on_target == self.modes.trains_on_target)
            if self.modes
            else contextlib.nullcontext()
        )


def _norms_of(network: nn.Module) -> Sequence[nn.Module]:
    segmenter = ddp.inner(network)
    assert isinstance(segmenter, Segmenter)
    return segmenter.norms()


def _scaled(losses: Losses, share: float) -> Losses:
    return {name: value * share for name, value in losses.items()}
