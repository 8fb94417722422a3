"""Image translation between the domains: a CycleGAN whose translations a frozen segmenter must still recognise (BDL).

One step:

1. source -> target look -> back, target -> source look -> back, and each generator on its own output domain: deceive
the
   discriminators (frozen), come back to the image, leave alone what needs no translation, keep the segmenter's view;
   one backward for both generators;
2. each discriminator on real images and on made ones, some of them from earlier steps, backward;
3. every optimiser steps (in ``engine/update.py``).

Normalisation is per image and every loss a mean over crops of one size, so N ranks are one process with the same
images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esl_dist.config.translation import TranslateConfig
from esl_dist.data.loader import Batch
from esl_dist.distributed import ddp
from esl_dist.engine.step import Losses, Pair
from esl_dist.losses.precision import wide
from esl_dist.losses.translation import perceptual_loss, realism_loss, reconstruction_loss
from esl_dist.methods.passes import Passes, add_losses, frozen
from esl_dist.methods.translation.history import History
from esl_dist.models.segmenter import Segmenter
from esl_dist.monitor.profile import phase

SOURCE, TARGET = "source", "target"


@dataclass
class Translation:
    """Generators and discriminators by the domain that they make or know."""

    generators: Mapping[str, nn.Module]
    discriminators: Mapping[str, nn.Module]
    history: Mapping[str, History]
    passes: Passes
    options: TranslateConfig
    judge: Segmenter | None = None
    """The frozen segmenter, on the device; None leaves the perceptual term out."""
    needs_target: bool = True

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {f"to_{domain}": network for domain, network in self.generators.items()} | {
            f"d_{domain}": network for domain, network in self.discriminators.items()
        }

    def memory(self) -> dict[str, Tensor]:
        """What the next step depends on beside the networks, of all ranks. Collective."""
        return {domain: history.gather() for domain, history in self.history.items()}

    def recall(self, memory: Mapping[str, Tensor]) -> None:
        """Go on from what ``memory`` gave."""
        for domain, history in self.history.items():
            history.restore(memory[domain])

    def step(self, micro: Sequence[Pair]) -> Losses:
        """Gradients of one optimiser step, summed over its micro-batches."""
        losses: Losses = {}
        for pair in micro:
            add_losses(losses, self._micro_step(pair, 1 / len(micro), pair is micro[-1]))
        return losses

    def _micro_step(self, pair: Pair, share: float, last: bool) -> Losses:
        assert pair.target is not None
        batches = {SOURCE: pair.source, TARGET: pair.target}
        real = {domain: self._images(batch) for domain, batch in batches.items()}
        with (
            ddp.sync_if(self.generators[SOURCE], last),
            ddp.sync_if(self.generators[TARGET], last),
            frozen(self.discriminators.values()),
        ):
            made, loss, losses = self._generator_pass(real)
            self.passes.backward(share * loss)
        for domain, other in ((TARGET, SOURCE), (SOURCE, TARGET)):
            shown = self.history[domain].exchange(made[domain], batches[other].positions)
            losses[f"d_{domain}"] = self._discriminator_pass(
                self.discriminators[domain], real[domain], shown, share, last
            )
        return {name: value * share for name, value in losses.items()}

    def _generator_pass(self, real: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor, Losses]:
        """The translations (by the domain they look like, detached), the loss of both generators and its unweighted
        parts.
        """
        options = self.options
        made, same = {}, {}
        for domain, other in ((TARGET, SOURCE), (SOURCE, TARGET)):
            made[domain], same[domain] = self._run(
                self.generators[domain], torch.cat([real[other], real[domain]])
            ).split([len(real[other]), len(real[domain])])
        back = {
            domain: self._run(self.generators[domain], made[other])
            for domain, other in ((SOURCE, TARGET), (TARGET, SOURCE))
        }
        total, losses = real[SOURCE].new_zeros(()), Losses()
        for domain in (TARGET, SOURCE):
            parts = {
                "adv": (
                    1.0,
                    realism_loss(
                        self.passes.discriminate(ddp.inner(self.discriminators[domain]), made[domain]), real=True
                    ),
                ),
                "cycle": (options.cycle, reconstruction_loss(back[domain], real[domain])),
                "identity": (options.cycle * options.identity, reconstruction_loss(same[domain], real[domain])),
            }
            if self.judge is not None:
                parts |= self._perceptual(
                    self.judge, real[domain], made[TARGET if domain == SOURCE else SOURCE], back[domain]
                )
            for name, (weight, value) in parts.items():
                total = total + weight * value
                losses[f"{name}_{domain}"] = value.detach()
        return {domain: image.detach() for domain, image in made.items()}, total, losses

    def _perceptual(
        self, judge: Segmenter, real: Tensor, made: Tensor, back: Tensor
    ) -> dict[str, tuple[float, Tensor]]:
        """What the segmenter sees in an image of a domain, in its translation, and after the way back."""
        weight = self.options.perceptual
        with torch.no_grad():
            seen = self._seen(judge, real)
        return {
            "perceptual": (weight, perceptual_loss(self._seen(judge, made), seen)),
            "perceptual_cycle": (
                weight * self.options.perceptual_cycle,
                perceptual_loss(self._seen(judge, back), seen),
            ),
        }

    @phase("discriminator")
    def _discriminator_pass(self, network: nn.Module, real: Tensor, made: Tensor, share: float, last: bool) -> Tensor:
        """Half the loss on real images, half on made ones, in one forward and one backward."""
        with ddp.sync_if(network, last):
            judged_real, judged_made = self.passes.discriminate(network, torch.cat([real, made])).split(
                [len(real), len(made)]
            )
            loss = 0.5 * (realism_loss(judged_real, real=True) + realism_loss(judged_made, real=False))
            self.passes.backward(share * loss)
        return loss.detach()

    def _images(self, batch: Batch) -> Tensor:
        """uint8 RGB to [-1, 1], in the generators' type."""
        like = next(ddp.inner(self.generators[TARGET]).parameters())
        images = batch.images.to(self.passes.runtime.device, non_blocking=True).to(like.dtype).div_(127.5).sub_(1)
        return images.contiguous(memory_format=torch.channels_last)

    @phase("forward")
    def _run(self, network: nn.Module, images: Tensor) -> Tensor:
        with self.passes.runtime.autocast():
            made: Tensor = network(images)
        return wide(made)

    def _seen(self, judge: Segmenter, images: Tensor) -> Tensor:
        """Main-head logits of images in [-1, 1], put as the segmenter knows them: B, G, R, 0-255, minus
        mean, by scale.
        """
        pixels = judge.normalisation.of_values((images + 1) * 127.5)
        with self.passes.runtime.autocast():
            logits: Tensor = judge(pixels).main
        return logits
