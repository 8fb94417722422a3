"""Alignment objectives: what is asked of the network on unlabelled target images.

An objective sees the target's logits at crop size and gives a loss; an adversarial one also trains its discriminators.
Any function ``f(logits_main, logits_aux) -> loss`` (aux None for one head) named ``package.module:function`` in the
configuration is an objective too.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from esl_dist.config.schema import AlignConfig
from esl_dist.distributed import ddp
from esl_dist.losses import (
    domain_loss,
    entropy_loss,
    guidance_labels,
    image_weighted_max_square_loss,
    max_square_loss,
    segmentation_loss,
    self_information,
)
from esl_dist.models.deeplabv2 import Outputs
from esl_dist.stages.passes import Losses, Passes, frozen

SOURCE, TARGET = 0, 1


class Objective(Protocol):
    """A loss on target logits (crop size), with the discriminators that it trains, if any."""

    discriminators: Mapping[str, nn.Module]

    def target_loss(self, logits: Outputs, passes: Passes) -> tuple[Tensor, Losses]:
        """Weighted loss of this rank's target batch (a mean over its images) and unweighted parts."""

    def discriminator_pass(self, source: Outputs, target: Outputs, passes: Passes, share: float, last: bool) -> Losses:
        """Forward and backward of the discriminators on detached logits, weighted by ``share``."""


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over classes, float32 or better."""
    return torch.softmax(logits, dim=1)


def weighted_information(logits: Tensor) -> Tensor:
    """ADVENT's discriminator input: weighted self-information of each class (ADVENT, eq. 4)."""
    return self_information(probabilities(logits))


@dataclass
class Adversarial:
    """A discriminator per head tells source maps from target maps; the segmenter makes target maps look like source.

    ADVENT sees weighted self-information, AdaptSegNet the softmax itself. Domain labels as in the public code: source 0, target 1.
    """

    discriminators: Mapping[str, nn.Module]
    view: Callable[[Tensor], Tensor]
    weights: Mapping[str, float]
    gan: str

    def target_loss(self, logits: Outputs, passes: Passes) -> tuple[Tensor, Losses]:
        """``sum over heads of lambda * L_D(D(view(target)), source)`` with D frozen."""
        parts: Losses = {}
        total = logits.main.new_zeros(())
        with frozen(self.discriminators.values()):
            for head, network in self.discriminators.items():
                judged = passes.discriminate(ddp.inner(network), self.view(_head(logits, head)))
                loss = domain_loss(judged, SOURCE, self.gan)
                parts[f"adv_{head}"] = loss.detach()
                total = total + self.weights[head] * loss
        return total, parts

    def discriminator_pass(self, source: Outputs, target: Outputs, passes: Passes, share: float, last: bool) -> Losses:
        """Each D: half the loss on source labelled source, half on target labelled target, in one forward and one backward."""
        parts: Losses = {}
        for head, network in self.discriminators.items():
            maps_s, maps_t = self.view(_head(source, head).detach()), self.view(_head(target, head).detach())
            with ddp.sync_if(network, last):
                if maps_s.shape[2:] == maps_t.shape[2:]:
                    judged_s, judged_t = passes.discriminate(network, torch.cat([maps_s, maps_t])).split([len(maps_s), len(maps_t)])
                    loss_s, loss_t = domain_loss(judged_s, SOURCE, self.gan), domain_loss(judged_t, TARGET, self.gan)
                    passes.backward(share * 0.5 * (loss_s + loss_t))
                else:
                    # Two sizes (1280x720 against 1024x512) cannot share a batch: the target, last, carries the all-reduce.
                    with ddp.sync_if(network, False):
                        loss_s = domain_loss(passes.discriminate(network, maps_s), SOURCE, self.gan)
                        passes.backward(share * 0.5 * loss_s)
                    loss_t = domain_loss(passes.discriminate(network, maps_t), TARGET, self.gan)
                    passes.backward(share * 0.5 * loss_t)
            parts[f"d_{head}_source"], parts[f"d_{head}_target"] = loss_s.detach(), loss_t.detach()
        return parts


@dataclass
class Direct:
    """An objective without discriminators: a weighted function of each head's probabilities."""

    loss: Callable[[Tensor], Tensor]
    name: str
    weights: Mapping[str, float]
    discriminators: Mapping[str, nn.Module] = field(default_factory=dict)

    def target_loss(self, logits: Outputs, passes: Passes) -> tuple[Tensor, Losses]:
        parts: Losses = {}
        total = logits.main.new_zeros(())
        for head, weight in self.weights.items():
            value = self.loss(probabilities(_head(logits, head)))
            parts[f"{self.name}_{head}"] = value.detach()
            total = total + weight * value
        return total, parts

    def discriminator_pass(self, source: Outputs, target: Outputs, passes: Passes, share: float, last: bool) -> Losses:
        return {}


@dataclass
class Guided:
    """MaxSquare's "Multi": beside ``base``, the aux head learns what both heads are confident of together (self-produced guidance)."""

    base: Direct
    weight: float
    threshold: float
    discriminators: Mapping[str, nn.Module] = field(default_factory=dict)

    def target_loss(self, logits: Outputs, passes: Passes) -> tuple[Tensor, Losses]:
        assert logits.aux is not None, "self-guidance needs two heads"
        total, parts = self.base.target_loss(logits, passes)
        with torch.no_grad():
            labels = guidance_labels(probabilities(logits.main), probabilities(logits.aux), self.threshold)
        valid = passes.globally_valid([labels], logits.aux.shape[1])
        guidance = segmentation_loss(logits.aux, labels, valid)
        parts["guidance_aux"] = guidance.detach()
        return total + self.weight * guidance, parts

    def discriminator_pass(self, source: Outputs, target: Outputs, passes: Passes, share: float, last: bool) -> Losses:
        return {}


@dataclass
class UserTerm:
    """A user's own ``f(logits_main, logits_aux) -> loss``."""

    function: Callable[[Tensor, Tensor | None], Tensor]
    weight: float
    discriminators: Mapping[str, nn.Module] = field(default_factory=dict)

    def target_loss(self, logits: Outputs, passes: Passes) -> tuple[Tensor, Losses]:
        value = self.function(logits.main, logits.aux)
        return self.weight * value, {self.function.__name__: value.detach()}

    def discriminator_pass(self, source: Outputs, target: Outputs, passes: Passes, share: float, last: bool) -> Losses:
        return {}


def adversarial(name: str) -> bool:
    """Whether the objective trains discriminators."""
    return name in ("advent", "adaptsegnet")


def build_objective(name: str, config: AlignConfig, multi_level: bool, discriminators: Mapping[str, nn.Module]) -> Objective | None:
    """The objective that ``name`` means (``none`` and ``bn`` mean no loss: None).

    Args:
        discriminators: by head (``main``, ``aux``), wrapped; empty unless ``adversarial(name)``.

    Raises:
        ValueError: ``package.module:function`` that cannot be imported.
    """
    weights = {"main": config.weight, "aux": config.weight_aux} if multi_level else {"main": config.weight}
    if name in ("none", "bn"):
        return None
    if adversarial(name):
        view = weighted_information if name == "advent" else probabilities
        return Adversarial(discriminators, view, weights, config.gan)
    if name == "minent":
        return Direct(entropy_loss, "entropy", weights)
    if name in ("maxsquare", "iw_maxsquare"):
        # MaxSquare acts on the main head alone; its aux head learns by guidance or from the source only.
        loss = max_square_loss if name == "maxsquare" else lambda prob: image_weighted_max_square_loss(prob, config.iw_ratio)
        direct = Direct(loss, "maxsquare", {"main": config.weight})
        return Guided(direct, config.weight * config.guidance_weight, config.guidance_threshold) if config.self_guidance else direct
    return UserTerm(_import_function(name), config.weight)


def _import_function(name: str) -> Callable[[Tensor, Tensor | None], Tensor]:
    module, _, function = name.partition(":")
    try:
        found: Callable[[Tensor, Tensor | None], Tensor] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"align.objective: cannot import {name!r}: {error}; the module must be on PYTHONPATH") from None
    return found


def _head(logits: Outputs, head: str) -> Tensor:
    chosen = logits.main if head == "main" else logits.aux
    assert chosen is not None
    return chosen
