"""Alignment objectives: what is asked of the network on unlabelled target images.

An objective is a sum of weighted terms on what the network says of target images, at the size of the crop; adversarial
terms also train their discriminators. Any function ``f(logits_main, logits_aux) -> loss`` (aux None for one head) named
``package.module:function`` in the configuration is a term too.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from esl_dist.config.schema import AlignConfig, TermConfig
from esl_dist.distributed import ddp
from esl_dist.engine.step import Losses
from esl_dist.losses import (
    domain_loss,
    entropy_loss,
    guidance_labels,
    image_weighted_max_square_loss,
    max_square_loss,
    segmentation_loss,
    upsampled_information,
    upsampled_probabilities,
)
from esl_dist.methods.passes import Passes, Prediction, add_losses, frozen, head_of

SOURCE, TARGET = 0, 1


class Term(Protocol):
    """One summand of an objective."""

    def target_loss(self, prediction: Prediction, passes: Passes) -> tuple[Tensor, Losses]:
        """Weighted loss of this rank's target batch (a mean over its images) and its unweighted parts."""


@dataclass
class Objective:
    """The sum of its terms."""

    terms: Sequence[Term]

    @property
    def discriminators(self) -> Mapping[str, nn.Module]:
        """By head, as wrapped; at most one term has any."""
        return {head: network for term in self._adversarial() for head, network in term.discriminators.items()}

    @property
    def host_work(self) -> str:
        """See ``engine.step.DeviceAlone``."""
        own = [term for term in self.terms if isinstance(term, UserTerm)]
        return f"{own[0].function.__name__} may decide on the host" if own else ""

    def target_loss(self, prediction: Prediction, passes: Passes) -> tuple[Tensor, Losses]:
        total, parts = prediction.zero(), Losses()
        for term in self.terms:
            loss, named = term.target_loss(prediction, passes)
            total = total + loss
            add_losses(parts, named)
        return total, parts

    def discriminator_pass(
        self, source: Prediction, target: Prediction, passes: Passes, share: float, last: bool
    ) -> Losses:
        """Forward and backward of the discriminators on detached predictions, weighted by ``share``."""
        parts = Losses()
        for term in self._adversarial():
            add_losses(parts, term.discriminator_pass(source, target, passes, share, last))
        return parts

    def _adversarial(self) -> Iterator[Adversarial]:
        return (term for term in self.terms if isinstance(term, Adversarial))


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over classes, float32 or better."""
    return torch.softmax(logits, dim=1)


@dataclass
class Adversarial:
    """A discriminator per head tells source maps from target maps; the segmenter makes target maps look like source.

    ADVENT sees weighted self-information, AdaptSegNet the softmax itself. Domain labels as in the public code: source
    0, target 1.
    """

    discriminators: Mapping[str, nn.Module]
    view: Callable[..., Tensor]
    """Of ``(logits, size, dtype)``."""
    weights: Mapping[str, float]
    gan: str

    def _view(self, passes: Passes) -> Callable[[Tensor, tuple[int, int]], Tensor]:
        return functools.partial(self.view, dtype=passes.runtime.dtype)

    def target_loss(self, prediction: Prediction, passes: Passes) -> tuple[Tensor, Losses]:
        """``sum over heads of lambda * L_D(D(view(target)), source)`` with D frozen."""
        parts: Losses = {}
        total = prediction.zero()
        with frozen(self.discriminators.values()):
            for head, network in self.discriminators.items():
                judged = passes.discriminate(ddp.inner(network), prediction.view(head, self._view(passes)))
                loss = domain_loss(judged, SOURCE, self.gan)
                parts[f"adv_{head}"] = loss.detach()
                total = total + self.weights[head] * loss
        return total, parts

    def discriminator_pass(
        self, source: Prediction, target: Prediction, passes: Passes, share: float, last: bool
    ) -> Losses:
        """Each D: half the loss on source labelled source, half on target labelled target, in one forward and one
        backward.
        """
        parts: Losses = {}
        for head, network in self.discriminators.items():
            view = self._view(passes)
            maps_s, maps_t = source.view(head, view), target.view(head, view)
            with ddp.sync_if(network, last):
                if maps_s.shape[2:] == maps_t.shape[2:]:
                    judged_s, judged_t = passes.discriminate(network, torch.cat([maps_s, maps_t])).split(
                        [len(maps_s), len(maps_t)]
                    )
                    loss_s, loss_t = domain_loss(judged_s, SOURCE, self.gan), domain_loss(judged_t, TARGET, self.gan)
                    passes.backward(share * 0.5 * (loss_s + loss_t))
                else:
                    # Two sizes (1280x720 against 1024x512) cannot share a batch: the target, last, carries the
                    # all-reduce.
                    with ddp.sync_if(network, False):
                        loss_s = domain_loss(passes.discriminate(network, maps_s), SOURCE, self.gan)
                        passes.backward(share * 0.5 * loss_s)
                    loss_t = domain_loss(passes.discriminate(network, maps_t), TARGET, self.gan)
                    passes.backward(share * 0.5 * loss_t)
            parts[f"d_{head}_source"], parts[f"d_{head}_target"] = loss_s.detach(), loss_t.detach()
        return parts


@dataclass
class Direct:
    """A weighted function of each head's probabilities."""

    loss: Callable[[Tensor], Tensor]
    name: str
    weights: Mapping[str, float]

    def target_loss(self, prediction: Prediction, passes: Passes) -> tuple[Tensor, Losses]:
        parts = Losses()
        total = prediction.zero()
        for head, weight in self.weights.items():
            value = self.loss(probabilities(head_of(prediction.upsampled, head)))
            parts[f"{self.name}_{head}"] = value.detach()
            total = total + weight * value
        return total, parts


@dataclass
class Guidance:
    """MaxSquare's "Multi": the aux head learns what both heads are confident of together (self-produced guidance).

    A mean over the guided pixels of all ranks, so N ranks equal one process with the same images. Of one micro-batch:
    how many pixels guide is known only after its forward, and the gradient of the micro-batch before is taken by then.
    With ``optim.accumulate`` the term is therefore the mean of the micro-batches' means, each weighing alike whatever
    it guides.
    """

    weight: float
    threshold: float

    def target_loss(self, prediction: Prediction, passes: Passes) -> tuple[Tensor, Losses]:
        logits = prediction.upsampled
        assert logits.aux is not None, "self-guidance needs two heads"
        with torch.no_grad():
            labels = guidance_labels(probabilities(logits.main), probabilities(logits.aux), self.threshold)
        valid = passes.globally_valid([labels], logits.aux.shape[1])
        guidance = segmentation_loss(logits.aux, labels, valid)
        return self.weight * guidance, {"guidance_aux": guidance.detach()}


@dataclass
class UserTerm:
    """A user's own ``f(logits_main, logits_aux) -> loss``, a mean over this rank's images."""

    function: Callable[[Tensor, Tensor | None], Tensor]
    weight: float

    def target_loss(self, prediction: Prediction, passes: Passes) -> tuple[Tensor, Losses]:
        value = self.function(prediction.upsampled.main, prediction.upsampled.aux)
        return self.weight * value, {self.function.__name__: value.detach()}


def terms_of(name: str, config: AlignConfig) -> list[TermConfig]:
    """The weighted terms of objective ``name``: itself and ``align.also``; empty for ``none`` and ``bn``."""
    return [] if name in ("none", "bn") else [TermConfig(name, config.weight, config.weight_aux), *config.also]


def heads_of(term: TermConfig, multi_level: bool) -> dict[str, float]:
    """Weight of each head that the term acts on."""
    weights = {"main": term.weight, "aux": term.weight_aux if multi_level else 0.0}
    return {head: weight for head, weight in weights.items() if weight > 0}


def discriminated(name: str, config: AlignConfig, multi_level: bool) -> list[str]:
    """The heads that need a discriminator."""
    return [head for term in terms_of(name, config) if term.adversarial for head in heads_of(term, multi_level)]


def reaches_aux(name: str, config: AlignConfig) -> bool:
    """Whether any loss of a two-headed network's alignment reaches the aux head."""
    terms = terms_of(name, config)
    return any(term.weight_aux > 0 or ":" in term.objective for term in terms) or bool(terms and config.self_guidance)


def build_objective(
    name: str, config: AlignConfig, multi_level: bool, discriminators: Mapping[str, nn.Module]
) -> Objective | None:
    """The objective that ``name`` and ``config`` mean (``none`` and ``bn`` mean no loss: None).

    Args:
        discriminators: wrapped, one for each of the heads ``discriminated`` names.

    Raises:
        ValueError: ``package.module:function`` that cannot be imported.
    """
    terms = [_term(term, config, heads_of(term, multi_level), discriminators) for term in terms_of(name, config)]
    if terms and config.self_guidance:
        terms.append(Guidance(config.weight * config.guidance_weight, config.guidance_threshold))
    return Objective(terms) if terms else None


def _term(
    term: TermConfig, config: AlignConfig, weights: Mapping[str, float], discriminators: Mapping[str, nn.Module]
) -> Term:
    if term.adversarial:
        view = upsampled_information if term.objective == "advent" else upsampled_probabilities
        return Adversarial(discriminators, view, weights, config.gan)
    if term.objective == "minent":
        return Direct(entropy_loss, "entropy", weights)
    if term.objective == "maxsquare":
        return Direct(max_square_loss, "maxsquare", weights)
    if term.objective == "iw_maxsquare":
        return Direct(lambda prob: image_weighted_max_square_loss(prob, config.iw_ratio), "iw_maxsquare", weights)
    return UserTerm(_import_function(term.objective), term.weight)


def _import_function(name: str) -> Callable[[Tensor, Tensor | None], Tensor]:
    module, _, function = name.partition(":")
    try:
        found: Callable[[Tensor, Tensor | None], Tensor] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"align.objective: cannot import {name!r}: {error}; the module must be on PYTHONPATH"
        ) from None
    return found
