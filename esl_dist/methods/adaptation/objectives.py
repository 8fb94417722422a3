"""Alignment objectives: what is asked of the network on unlabelled target images.

An objective is a sum of weighted terms on what the network says of target images, at the size of the crop; adversarial
terms also train their discriminators. Any function ``f(logits_main, logits_aux) -> loss`` (aux None for one head) named
``package.module:function`` in the configuration is a term too.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
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

log = logging.getLogger(__name__)

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
    joint: bool = False
    """The discriminators as one network of as many groups: half the launches; of one rank, since DDP calls each."""

    def _view(self, passes: Passes) -> Callable[[Tensor, tuple[int, int]], Tensor]:
        return functools.partial(self.view, dtype=passes.runtime.dtype)

    def _groups(self) -> list[Mapping[str, nn.Module]]:
        """Discriminators, by head, that share a pass."""
        return (
            [self.discriminators] if self.joint else [{head: network} for head, network in self.discriminators.items()]
        )

    def target_loss(self, prediction: Prediction, passes: Passes) -> tuple[Tensor, Losses]:
        """``sum over heads of lambda * L_D(D(view(target)), source)`` with D frozen."""
        parts: Losses = {}
        total = prediction.zero()
        with frozen(self.discriminators.values()):
            for networks in self._groups():
                maps = [prediction.view(head, self._view(passes)) for head in networks]
                judged = passes.discriminate_each([ddp.inner(network) for network in networks.values()], maps)
                for head, logits in zip(networks, judged, strict=True):
                    loss = domain_loss(logits, SOURCE, self.gan)
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
        for networks in self._groups():
            sources, targets = ([p.view(head, self._view(passes)) for head in networks] for p in (source, target))
            if all(s.shape[2:] == t.shape[2:] for s, t in zip(sources, targets, strict=True)):
                both = [torch.cat([s, t]) for s, t in zip(sources, targets, strict=True)]
                with _synchronised(networks, last):
                    judged = [
                        logits.split([len(sources[0]), len(targets[0])])
                        for logits in passes.discriminate_each(list(networks.values()), both)
                    ]
                    losses_s = [domain_loss(logits, SOURCE, self.gan) for logits, _ in judged]
                    losses_t = [domain_loss(logits, TARGET, self.gan) for _, logits in judged]
                    passes.backward(share * 0.5 * _sum([s + t for s, t in zip(losses_s, losses_t, strict=True)]))
            else:
                # Two sizes (1280x720 against 1024x512) cannot share a batch: the target, last, carries the all-reduce.
                losses_s = self._learn(networks, sources, SOURCE, passes, share, False)
                losses_t = self._learn(networks, targets, TARGET, passes, share, last)
            for head, loss_s, loss_t in zip(networks, losses_s, losses_t, strict=True):
                parts[f"d_{head}_source"], parts[f"d_{head}_target"] = loss_s.detach(), loss_t.detach()
        return parts

    def _learn(
        self,
        networks: Mapping[str, nn.Module],
        maps: Sequence[Tensor],
        domain: int,
        passes: Passes,
        share: float,
        last: bool,
    ) -> list[Tensor]:
        """Forward and backward on one domain."""
        with _synchronised(networks, last):
            judged = passes.discriminate_each(list(networks.values()), maps)
            losses = [domain_loss(logits, domain, self.gan) for logits in judged]
            passes.backward(share * 0.5 * _sum(losses))
        return losses


def _sum(losses: Sequence[Tensor]) -> Tensor:
    return functools.reduce(torch.add, losses)


@contextlib.contextmanager
def _synchronised(networks: Mapping[str, nn.Module], last: bool) -> Iterator[None]:
    """``ddp.sync_if`` of them all."""
    with contextlib.ExitStack() as stack:
        for network in networks.values():
            stack.enter_context(ddp.sync_if(network, last))
        yield


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


def reaches_aux(name: str, config: AlignConfig, num_classes: int) -> bool:
    """Whether any loss of a two-headed network's alignment reaches the aux head; a function of the user's own is tried.

    Raises:
        ValueError: ``package.module:function`` that cannot be imported.
    """
    terms = terms_of(name, config)
    if any(term.weight_aux > 0 for term in terms if ":" not in term.objective) or (terms and config.self_guidance):
        return True
    return any(reads_aux(_import_function(term.objective), num_classes) for term in terms if ":" in term.objective)


def reads_aux(function: Callable[[Tensor, Tensor | None], Tensor], num_classes: int) -> bool:
    """Whether a gradient of a user's own function comes to the aux logits: it is called once, on small random ones.

    One that fails on them is taken to read both heads, and a line says so.
    """
    generator = torch.Generator().manual_seed(0)
    main, aux = (torch.randn(1, num_classes, 16, 16, generator=generator, requires_grad=True) for _ in range(2))
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            (gradient,) = torch.autograd.grad(function(main, aux), aux, allow_unused=True)
    except Exception as error:
        log.warning(
            "align.objective: %s could not be tried on small logits (%s), so it is taken to read both heads: if it"
            " reads the main one only, weight decay alone moves the aux head",
            function.__name__,
            error,
        )
        return True
    return gradient is not None


def build_objective(
    name: str,
    config: AlignConfig,
    multi_level: bool,
    discriminators: Mapping[str, nn.Module],
    joint: bool = False,
) -> Objective | None:
    """The objective that ``name`` and ``config`` mean (``none`` and ``bn`` mean no loss: None).

    Args:
        discriminators: wrapped, one for each of the heads ``discriminated`` names.
        joint: they share a pass (``Adversarial.joint``).

    Raises:
        ValueError: ``package.module:function`` that cannot be imported.
    """
    terms = [_term(term, config, heads_of(term, multi_level), discriminators, joint) for term in terms_of(name, config)]
    if terms and config.self_guidance:
        terms.append(Guidance(config.weight * config.guidance_weight, config.guidance_threshold))
    return Objective(terms) if terms else None


def _term(
    term: TermConfig,
    config: AlignConfig,
    weights: Mapping[str, float],
    discriminators: Mapping[str, nn.Module],
    joint: bool,
) -> Term:
    if term.adversarial:
        view = upsampled_information if term.objective == "advent" else upsampled_probabilities
        return Adversarial(discriminators, view, weights, config.gan, joint and len(discriminators) > 1)
    if term.objective == "minent":
        return Direct(entropy_loss, "entropy", weights)
    if term.objective == "maxsquare":
        return Direct(max_square_loss, "maxsquare", weights)
    if term.objective == "iw_maxsquare":
        return Direct(lambda prob: image_weighted_max_square_loss(prob, config.iw_ratio), "iw_maxsquare", weights)
    return UserTerm(_import_function(term.objective), term.weight)


def import_terms(name: str, config: AlignConfig) -> None:
    """``ValueError`` where a function of objective ``name`` cannot be imported."""
    for term in terms_of(name, config):
        if ":" in term.objective:
            _import_function(term.objective)


def _import_function(name: str) -> Callable[[Tensor, Tensor | None], Tensor]:
    module, _, function = name.partition(":")
    try:
        found: Callable[[Tensor, Tensor | None], Tensor] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"align.objective: cannot import {name!r}: {error}; the module must be on PYTHONPATH"
        ) from None
    return found
