"""What every training step shares: how a batch becomes a forward, a loss a backward, and a count a global mean."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat

import torch
from torch import Tensor, nn

from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.step import Losses
from esl_dist.losses import upsample, upsampled_segmentation_loss
from esl_dist.methods.draws import Draws, Keys
from esl_dist.models.discriminator import Discriminator, together
from esl_dist.models.hrda import MultiResolution
from esl_dist.models.mmdl import Embedded
from esl_dist.models.segmenter import Outputs, Segmenter
from esl_dist.monitor.profile import phase

DETAIL_SHARE = 0.1
"""Of every labelled loss, for the detail of a network of two resolutions (HRDA's lambda_d)."""


@dataclass
class Passes:
    """Forward and backward as this run wants them: device, precision, loss scaling.

    ``scale_loss`` is the fp16 scaler's, or the identity.
    """

    runtime: Runtime
    scale_loss: Callable[[Tensor], Tensor] = lambda loss: loss
    seed: int = 0
    """Of what networks draw."""

    @phase("forward")
    def forward(
        self,
        network: nn.Module,
        images_u8: Tensor,
        features: bool = False,
        keys: Keys | None = None,
        mask: Tensor | None = None,
    ) -> Prediction:
        """What the network says of uint8 RGB ``[n, 3, H, W]``, with the features that further heads read; through DDP
        where it is wrapped.

        Args:
            keys: what a network with dropout or stochastic depth draws from; None: from whoever called.
            mask: bool ``[n, rows, columns]`` of ``patch_grid``, where a network has one: patches that it must not see.
        """
        segmenter = ddp.inner(network)
        assert isinstance(segmenter, Segmenter)
        images = self._normalised(segmenter, images_u8)
        drawing = keys.drawing() if keys else contextlib.nullcontext()
        with self.runtime.autocast(), drawing:
            more = {} if mask is None else {"mask": mask}
            outputs, base = network(images, features=True, **more) if features else (network(images, **more), None)
        return Prediction(outputs, (images.shape[2], images.shape[3]), base)

    def keys(self, network: nn.Module, draws: Draws) -> Keys | None:
        """What the network draws from in a pass; None of one that draws nothing."""
        drawn = getattr(ddp.inner(network), "draws", False)
        return draws.keys(self.seed, self.runtime.device) if drawn else None

    @torch.no_grad()
    def features(self, network: Segmenter, images_u8: Tensor) -> Tensor:
        """What the heads of an unwrapped network would read, without a graph: ``[n, channels, h, w]``."""
        with self.runtime.autocast():
            return network.features_of(self._normalised(network, images_u8))

    def _normalised(self, segmenter: Segmenter, images_u8: Tensor) -> Tensor:
        images = segmenter.normalisation(images_u8.to(self.runtime.device, non_blocking=True))
        like = next(segmenter.parameters())
        return images.to(like.dtype).contiguous(memory_format=torch.channels_last)

    def embed(self, head: nn.Module, features: Tensor, where: Tensor) -> Embedded:
        """Features ``[n, channels, h, w]`` at positions ``[n, S]`` of their grid, in the embedding space."""
        with self.runtime.autocast():
            embedded: Embedded = head(features, where)
        return embedded

    def discriminate(self, network: nn.Module, maps: Tensor) -> Tensor:
        """Domain logits of float32 maps ``[n, C, H, W]``."""
        with self.runtime.autocast():
            logits: Tensor = network(maps)
        return logits

    def discriminate_each(self, networks: Sequence[nn.Module], maps: Sequence[Tensor]) -> Sequence[Tensor]:
        """Domain logits of each network's own maps; of several (unwrapped, maps alike in shape) in one pass."""
        if len(networks) == 1:
            return [self.discriminate(networks[0], maps[0])]
        with self.runtime.autocast():
            return together([network for network in networks if isinstance(network, Discriminator)], maps)

    @phase("backward")
    def backward(self, loss: Tensor) -> None:
        self.scale_loss(loss).backward()

    @phase("backward")
    def gradients(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> Sequence[Tensor | None]:
        """As ``backward``, but returned, with no ``.grad`` touched; None for what the loss does not reach."""
        return torch.autograd.grad(self.scale_loss(loss), parameters, allow_unused=True)

    def labels(self, labels_u8: Tensor) -> Tensor:
        return labels_u8.to(self.runtime.device, non_blocking=True)

    def weights(self, weights_u8: Tensor | None) -> Tensor | None:
        """Pixel weights 0-1, float32, from their 255ths."""
        return None if weights_u8 is None else self.labels(weights_u8).float().div_(255)

    def globally_valid(
        self, labels: Iterable[Tensor], num_classes: int, weights: Iterable[Tensor | None] = repeat(None)
    ) -> Tensor:
        """Valid pixels of the whole global batch divided by the world size, 0-dim float64.

        DDP averages gradients over ranks, so a sum over this rank's pixels divided by this number becomes, after the
        all-reduce, the mean over every valid pixel of every rank: N ranks equal one process with the same images. With
        ``weights`` (uint8, in 255ths) it is the sum of the valid pixels' weights, and the mean the weighted one.
        """
        count = torch.zeros((), dtype=torch.float64, device=self.runtime.device)
        for batch, weight in zip(labels, weights, strict=False):
            valid = self.labels(batch) < num_classes
            count += valid.sum() if weight is None else (self.labels(weight) * valid).sum() / 255
        return self._per_rank(count, 1 / 255)

    def globally_weighed(self, labels: Iterable[Tensor], weights: Tensor) -> Tensor:
        """The same where a pixel weighs what its class does: ``weights`` by train id, ``[256]``, 0 for ignored ones."""
        count = torch.zeros((), dtype=torch.float64, device=self.runtime.device)
        for batch in labels:
            count += weights[self.labels(batch).long()].sum(dtype=torch.float64)
        return self._per_rank(count, 1e-30)

    def _per_rank(self, count: Tensor, least: float) -> Tensor:
        # Nothing to learn anywhere (all pixels ignored): every sum is zero, and zero over ``least``, which is less than
        # any pixel's weight, is zero, not NaN.
        return collectives.all_reduce_(count).clamp_min_(least).div_(self.runtime.world)


class Prediction:
    """What a network says of a batch: both heads' logits at output stride 8, and the size ``(H, W)`` of the crop, where
    every loss is taken.

    The losses that every method shares read the logits and upsample them band by band; ``upsampled`` holds them whole
    for any other. ``features``: what the main head read, for a further head on the base (None unless asked for).
    """

    def __init__(self, logits: Outputs, size_hw: tuple[int, int], features: Tensor | None = None) -> None:
        self.logits, self.size_hw, self.features = logits, size_hw, features
        self._views: dict[str, Tensor] = {}

    def zero(self) -> Tensor:
        """What a sum of losses starts from."""
        return torch.zeros((), device=self.logits.main.device)

    @cached_property
    def upsampled(self) -> Outputs:
        """Both heads' logits at the size of the crop, float32 (float64 stays)."""
        return Outputs(
            upsample(self.logits.main, self.size_hw),
            None if self.logits.aux is None else upsample(self.logits.aux, self.size_hw),
        )

    def view(self, head: str, make: Callable[[Tensor, tuple[int, int]], Tensor]) -> Tensor:
        """``make(logits of head, size)``, made once: what the segmenter's pass shows a discriminator is what the
        discriminator learns from.
        """
        if head not in self._views:
            self._views[head] = make(head_of(self.logits, head), self.size_hw)
        return self._views[head]

    def detached(self) -> Prediction:
        """The same without its graph, views included."""
        logits = self.logits
        found = Prediction(
            Outputs(logits.main.detach(), None if logits.aux is None else logits.aux.detach()), self.size_hw
        )
        found._views = {head: view.detach() for head, view in self._views.items()}
        return found


def heads_of(logits: Outputs) -> list[Tensor]:
    """Every map of logits that a pass made: main, aux, and the detail of a network of two resolutions."""
    detail = logits.detail if isinstance(logits, MultiResolution) else None
    return [head for head in (logits.main, logits.aux, detail) if head is not None]


def head_of(logits: Outputs, name: str) -> Tensor:
    """One head's: ``main`` or ``aux``."""
    chosen = logits.main if name == "main" else logits.aux
    assert chosen is not None
    return chosen


def cross_entropy(
    prediction: Prediction,
    labels: Tensor,
    valid: Tensor | float,
    weights: tuple[float, float],
    name: str,
    pixel_weights: Tensor | None = None,
) -> tuple[Tensor, Losses]:
    """``w_main * CE(main) + w_aux * CE(aux)`` over ``valid`` pixels, and its parts without the heads' weights as
    ``<name>_main`` and ``<name>_aux``.
    """
    main = upsampled_segmentation_loss(prediction.logits.main, labels, valid, pixel_weights)
    parts = {f"{name}_main": main.detach()}
    total = weights[0] * main
    if prediction.logits.aux is not None:
        aux = upsampled_segmentation_loss(prediction.logits.aux, labels, valid, pixel_weights)
        parts[f"{name}_aux"] = aux.detach()
        total = total + weights[1] * aux
    return total, parts


def labelled_loss(
    prediction: Prediction,
    labels: Tensor,
    valid: Tensor,
    weights: tuple[float, float],
    name: str,
    pixel_weights: Tensor | None = None,
) -> tuple[Tensor, Losses]:
    """``cross_entropy``; of a network of two resolutions 0.9 of it and 0.1 of the detail's own, ``<name>_detail``
    (HRDA).

    The detail's mean is over its part of ``valid``, by area.
    """
    total, parts = cross_entropy(prediction, labels, valid, weights, name, pixel_weights)
    detail = detail_loss(prediction, labels, valid, pixel_weights)
    if detail is None:
        return total, parts
    parts[f"{name}_detail"] = detail.detach()
    return (1 - DETAIL_SHARE) * total + DETAIL_SHARE * weights[0] * detail, parts


def detail_loss(
    prediction: Prediction, labels: Tensor, valid: Tensor | float, pixel_weights: Tensor | None = None
) -> Tensor | None:
    """Cross-entropy of the detail of a network of two resolutions, over its part of ``valid`` by area; None of any
    other network.
    """
    logits = prediction.logits
    if not isinstance(logits, MultiResolution) or logits.detail is None or logits.box is None:
        return None
    box = logits.box
    share = box.height * box.width / (labels.shape[1] * labels.shape[2])
    inside = None if pixel_weights is None else box.of(pixel_weights).contiguous()
    return upsampled_segmentation_loss(logits.detail, box.of(labels).contiguous(), valid * share, inside)


def add_losses(total: Losses, part: Losses) -> None:
    for name, value in part.items():
        total[name] = total[name] + value if name in total else value


def frozen(networks: Iterable[nn.Module]) -> contextlib.AbstractContextManager[None]:
    """Inside, the networks' parameters take no gradient (for the step of the network that they judge)."""
    return _Frozen([ddp.inner(network) for network in networks])


class _Frozen(contextlib.AbstractContextManager[None]):
    def __init__(self, networks: Sequence[nn.Module]) -> None:
        self.networks = networks

    def __enter__(self) -> None:
        for network in self.networks:
            network.requires_grad_(False)

    def __exit__(self, *_: object) -> None:
        for network in self.networks:
            network.requires_grad_(True)
