"""From a configuration to networks on the device: what several methods build alike."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from esl_dist.config.schema import Config, OptimConfig
from esl_dist.distributed import ddp
from esl_dist.distributed.batch_norm import synchronise
from esl_dist.engine.optim import Adam, Poly, Recipe, Sgd
from esl_dist.labels import protocol
from esl_dist.methods.kit import Kit
from esl_dist.methods.passes import Passes
from esl_dist.models import Segmenter, build_discriminator, build_segmenter, empty_segmenter
from esl_dist.models.weights import load as load_weights

log = logging.getLogger(__name__)

BACKEND = "inductor"
"""What torch.compile hands its graphs to."""
REPEATED = 3
"""A module that a network has as often is a block, compiled once for all that are built alike."""
MOST_BLOCKS = 128
"""Kinds of block, by size of image and mode, that are compiled before torch would run one uncompiled."""


def passes_of(kit: Kit) -> Passes:
    """Forward and backward as a run wants them."""
    return Passes(kit.runtime, kit.scaler.scale, kit.config.run.seed)


def starting_segmenter(config: Config, initial: Mapping[str, Any] | None) -> Segmenter:
    """The segmenter on the CPU, in training mode.

    Args:
        initial: state dict that it starts from; None takes ``model.checkpoint``, or weights drawn from the seed.
    """
    classes = protocol(config.data.classes).num_classes
    if initial is not None:
        segmenter = empty_segmenter(config.model, classes, config.data)
        segmenter.load_state_dict(initial)
        return segmenter.train()
    segmenter = build_segmenter(config.model, classes, config.run.seed, config.data)
    if config.model.checkpoint:
        load_weights(config.model.checkpoint, segmenter, config.model.layout)
    elif config.model.options.init != "imagenet":
        log.info(
            "model.checkpoint is empty: the network starts from random weights; published results start from ImageNet's"
            " or better (docs/how-to/weights-and-data.md)"
        )
    return segmenter.train()


def trained_segmenter(kit: Kit, initial: Mapping[str, Any] | None, learns_aux: bool) -> nn.Module:
    """The segmenter that a step trains: on the device, wrapped.

    Args:
        learns_aux: whether any loss reaches its aux head; one that none reaches is frozen.
    """
    config = kit.config
    segmenter = starting_segmenter(config, initial)
    if config.model.bn == "sync":
        segmenter = synchronise(segmenter, kit.runtime.device.type == "cuda")
    if not learns_aux:
        # Neither gradient nor weight decay moves a head that no loss reaches (MaxSquare without guidance).
        for parameter in segmenter.aux_parameters():
            parameter.requires_grad_(False)
    return ready(segmenter, kit)


def trained_discriminators(kit: Kit, heads: Iterable[str]) -> dict[str, nn.Module]:
    """A new discriminator for each head, wrapped."""
    config = kit.config
    classes = protocol(config.data.classes).num_classes
    seeds = {"main": config.run.seed + 1, "aux": config.run.seed + 2}
    return {head: ready(build_discriminator(config.model, classes, seeds[head]).train(), kit) for head in heads}


def segmenter_recipe(optim: OptimConfig, steps: int, discriminators: Iterable[str] = ()) -> Recipe:
    """SGD for the segmenter, Adam for what stands beside it, one polynomial decay for all (AdaptSegNet's recipe)."""
    beside = dict.fromkeys(discriminators, Adam.of(optim))
    clip = {"segmenter": optim.clip} if optim.clip else {}
    return Recipe({"segmenter": Sgd.of(optim), **beside}, Poly.of(optim, steps), clip)


def beside(networks: Iterable[str]) -> list[str]:
    """The networks of a step that stand beside its segmenter."""
    return [name for name in networks if name != "segmenter"]


def ready(network: nn.Module, kit: Kit) -> nn.Module:
    """On the device, compiled if asked for (in place and before DDP takes it, for fixed shapes), wrapped."""
    run = kit.config.run
    kit.runtime.place(network)
    if run.compile:
        network.compile(backend=BACKEND, dynamic=False)
    elif run.compile_blocks:
        limits: Any = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, MOST_BLOCKS)
        options = {"deterministic": run.deterministic} if BACKEND == "inductor" else None
        for block in blocks_of(network):
            block.compile(backend=BACKEND, dynamic=False, options=options)
    return ddp.wrap(network, kit.runtime)


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """What a network is built of again and again: the outermost modules of this package that it has ``REPEATED`` times
    or more.
    """
    kinds = Counter(type(module) for module in network.modules() if type(module).__module__.startswith("esl_dist."))
    found: list[nn.Module] = []
    waiting = [network]
    while waiting:
        for child in waiting.pop(0).children():
            (found if kinds[type(child)] >= REPEATED else waiting).append(child)
    return found
