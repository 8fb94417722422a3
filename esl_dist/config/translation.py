"""Options of image translation (BDL): a CycleGAN between the domains, judged by a segmenter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from esl_dist.config.bounds import BelowOne, Bound, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Share
from esl_dist.config.check import require

STRIDE = 4
"""A generator halves its map twice and doubles it twice: sizes are multiples of this."""


@dataclass(frozen=True)
class TranslateConfig:
    """The stage ``translate``, after which the source set is rewritten in the target's look for the stages marked
    ``+it``.
    """

    steps: PositiveInt = 499_320
    """Optimiser steps (published: 20 passes over GTA5's 24 966 images, one image a step)."""
    hold: BelowOne = 0.5
    """Share of the steps at the full rate; over the rest it falls linearly to zero."""
    rounds: Annotated[int, Bound(1, 1000)] = 1
    """Times that ``translate`` and every stage marked ``+it`` are run; each translation is judged by the newest
    segmenter before it.
    """
    lr: PositiveFloat = 2e-4
    """Adam learning rate of generators and discriminators, betas (0.5, 0.999)."""
    load: PositiveInt = 1024
    """Width that images are scaled to, their shape kept; also when the set is rewritten."""
    crop: Annotated[int, Bound(32, 65_536)] = 452
    """Side of the square that is cut from them for training."""
    mirror: Share = 0.5
    """Probability of a horizontal flip."""
    blocks: PositiveInt = 9
    """Residual blocks of a generator."""
    width: PositiveInt = 64
    """Channels of a generator's first convolution (ngf)."""
    discriminator_width: PositiveInt = 64
    """Channels of a discriminator's first convolution (ndf)."""
    cycle: NonNegativeFloat = 10.0
    """Weight of |there and back - image|, both ways."""
    identity: NonNegativeFloat = 0.5
    """Weight of |an image of its own domain - itself|, relative to ``cycle``."""
    perceptual: NonNegativeFloat = 0.1
    """Weight of the change in the judging segmenter's normalised logits, both ways; 0 needs no segmenter."""
    perceptual_cycle: NonNegativeFloat = 10.0
    """Weight of the same for there and back, relative to ``perceptual``."""
    history: NonNegativeInt = 50
    """Translated images kept for each discriminator, over all ranks; 0 shows it the newest only."""

    def __post_init__(self) -> None:
        require(self.crop % STRIDE == 0, "translate.crop", f"must be a multiple of {STRIDE}, not {self.crop}")
        require(self.load >= self.crop, "translate.load", f"{self.load} is narrower than translate.crop={self.crop}")
