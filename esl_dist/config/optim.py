"""Options of the optimisers, and of training on labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from esl_dist.config.bounds import BelowOne, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from esl_dist.config.check import require


@dataclass(frozen=True)
class OptimConfig:
    """SGD for the segmenter, Adam for the discriminators, polynomial decay for both."""

    batch: PositiveInt = 1
    """Source images (and as many target images) per rank and micro-batch."""
    accumulate: PositiveInt = 1
    """Micro-batches per optimiser step; the global batch is ranks x batch x accumulate."""
    count: Literal["steps", "samples"] = "steps"
    """What every stage's ``steps``, ``decay_steps`` and ``warmup`` count: optimiser steps, or source images of all
    ranks (rounded up to whole steps).
    """
    lr: PositiveFloat = 2.5e-4
    """Learning rate of the backbone."""
    head_lr: PositiveFloat = 10.0
    """Heads learn this many times faster."""
    scale_lr: Literal["none", "linear", "sqrt"] = "none"
    """Multiply ``lr`` and ``discriminator_lr`` by global batch / ``base_batch``, or by its square root."""
    base_batch: PositiveInt = 1
    """Global batch that the rates are meant for (published: 1)."""
    warmup: NonNegativeInt = 0
    """Steps at the start of a stage over which the rates rise linearly."""
    momentum: BelowOne = 0.9
    """SGD momentum."""
    weight_decay: NonNegativeFloat = 5e-4
    """SGD weight decay (1e-4 in the ESL paper)."""
    discriminator_lr: PositiveFloat = 1e-4
    """Adam learning rate of the discriminators and of DRSL's second head, betas (0.9, 0.99)."""
    power: PositiveFloat = 0.9
    """Exponent of the decay (1 - step/decay_steps)^power."""
    decay_steps: NonNegativeInt = 250_000
    """Steps over which the rate decays to zero; a stage may stop earlier. 0 means the stage's own number of steps."""
    updates: Literal["once", "published"] = "once"
    """``published`` repeats each parameter's update as often as the published code lists it (about 3x the backbone
    rate).
    """
    backend: Literal["auto", "fused", "foreach", "apex"] = "auto"
    """Implementation of the update; ``auto`` is torch's fused one, ``apex`` NVIDIA's (see
    ``esl_dist/engine/apex.py``).
    """
    clip: NonNegativeFloat = 0.0
    """Maximum gradient norm of the segmenter; 0 does not clip."""

    def __post_init__(self) -> None:
        require(
            self.updates == "once" or self.backend not in ("fused", "apex"),
            "optim.updates",
            "published updates have their own implementation; use optim.backend=auto",
        )


@dataclass(frozen=True)
class SupervisedConfig:
    """Training on labels: the stages ``initial``, ``source`` and ``oracle``."""

    steps: PositiveInt = 120_000
    """Optimiser steps."""
    class_weights: str = "none"
    """Weights of the classes in the cross-entropy, a weighted mean: none, inverse (of a class's share of the pixels),
    median, enet, as published by name (erfnet, hrnet: Cityscapes' 19 classes), or given: ``1,2.5,…`` in the classes'
    order, ``gate:4,road:0.5`` by name and 1 for the others.
    """
    rare_temperature: NonNegativeFloat = 0.0
    """Rare-class sampling: images drawn by class, rare ones more often (DAFormer: 0.01); 0 shuffles the set."""
    rare_pixels: NonNegativeInt = 3000
    """Pixels of a class that an image needs, at its own size, to be drawn for it."""
