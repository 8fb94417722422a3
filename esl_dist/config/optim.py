"""Options of the optimisers, and of training on labels alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from esl_dist.config.check import require


@dataclass(frozen=True)
class OptimConfig:
    """SGD for the segmenter, Adam for the discriminators, polynomial decay for both."""

    batch: int = 1
    """Source images (and as many target images) per rank and micro-batch."""
    accumulate: int = 1
    """Micro-batches per optimiser step; the global batch is ranks x batch x accumulate."""
    count: Literal["steps", "samples"] = "steps"
    """What every stage's ``steps``, ``decay_steps`` and ``warmup`` count: optimiser steps, or source images of all
    ranks (rounded up to whole steps).
    """
    lr: float = 2.5e-4
    """Learning rate of the backbone."""
    head_lr: float = 10.0
    """Heads learn this many times faster."""
    scale_lr: Literal["none", "linear", "sqrt"] = "none"
    """Multiply ``lr`` and ``discriminator_lr`` by global batch / ``base_batch``, or by its square root."""
    base_batch: int = 1
    """Global batch that the rates are meant for (published: 1)."""
    warmup: int = 0
    """Steps at the start of a stage over which the rates rise linearly."""
    momentum: float = 0.9
    """SGD momentum."""
    weight_decay: float = 5e-4
    """SGD weight decay (1e-4 in the ESL paper)."""
    discriminator_lr: float = 1e-4
    """Adam learning rate of the discriminators and of DRSL's second head, betas (0.9, 0.99)."""
    power: float = 0.9
    """Exponent of the decay (1 - step/decay_steps)^power."""
    decay_steps: int = 250_000
    """Steps over which the rate decays to zero; a stage may stop earlier. 0 means the stage's own number of steps."""
    updates: Literal["once", "published"] = "once"
    """``published`` repeats each parameter's update as often as the published code lists it (about 3x the backbone
    rate).
    """
    backend: Literal["auto", "fused", "foreach", "apex"] = "auto"
    """Implementation of the update; ``auto`` is torch's fused one, ``apex`` NVIDIA's (see
    ``esl_dist/engine/apex.py``).
    """
    clip: float = 0.0
    """Maximum gradient norm of the segmenter; 0 does not clip."""

    def __post_init__(self) -> None:
        require(self.batch >= 1, "optim.batch", "must be 1 or more")
        require(self.accumulate >= 1, "optim.accumulate", "must be 1 or more")
        for name in ("lr", "head_lr", "discriminator_lr", "power"):
            require(getattr(self, name) > 0, f"optim.{name}", "must be positive")
        require(0 <= self.momentum < 1, "optim.momentum", "must be in [0, 1)")
        require(self.decay_steps >= 0, "optim.decay_steps", "must be 0 or more")
        require(self.base_batch >= 1, "optim.base_batch", "must be 1 or more")
        require(self.warmup >= 0, "optim.warmup", "must be 0 (none) or more")
        require(
            self.updates == "once" or self.backend not in ("fused", "apex"),
            "optim.updates",
            "published updates have their own implementation; use optim.backend=auto",
        )


@dataclass(frozen=True)
class SupervisedConfig:
    """Training on labels: the stages ``initial``, ``source`` and ``oracle``."""

    steps: int = 120_000
    """Optimiser steps."""

    def __post_init__(self) -> None:
        require(self.steps >= 1, "steps", "must be 1 or more")
