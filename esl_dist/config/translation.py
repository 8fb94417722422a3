"""Options of image translation (BDL): a CycleGAN between the domains, judged by a segmenter."""

from __future__ import annotations

from dataclasses import dataclass

from esl_dist.config.check import require

STRIDE = 4
"""A generator halves its map twice and doubles it twice: sizes are multiples of this."""


@dataclass(frozen=True)
class TranslateConfig:
    """The stage ``translate``, after which the source set is rewritten in the target's look for the stages marked
    ``+it``.
    """

    steps: int = 499_320
    """Optimiser steps (published: 20 passes over GTA5's 24 966 images, one image a step)."""
    hold: float = 0.5
    """Share of the steps at the full rate; over the rest it falls linearly to zero."""
    rounds: int = 1
    """Times that ``translate`` and every stage marked ``+it`` are run; each translation is judged by the newest
    segmenter before it.
    """
    lr: float = 2e-4
    """Adam learning rate of generators and discriminators, betas (0.5, 0.999)."""
    load: int = 1024
    """Width that images are scaled to, their shape kept; also when the set is rewritten."""
    crop: int = 452
    """Side of the square that is cut from them for training."""
    mirror: float = 0.5
    """Probability of a horizontal flip."""
    blocks: int = 9
    """Residual blocks of a generator."""
    width: int = 64
    """Channels of a generator's first convolution (ngf)."""
    discriminator_width: int = 64
    """Channels of a discriminator's first convolution (ndf)."""
    cycle: float = 10.0
    """Weight of |there and back - image|, both ways."""
    identity: float = 0.5
    """Weight of |an image of its own domain - itself|, relative to ``cycle``."""
    perceptual: float = 0.1
    """Weight of the change in the judging segmenter's normalised logits, both ways; 0 needs no segmenter."""
    perceptual_cycle: float = 10.0
    """Weight of the same for there and back, relative to ``perceptual``."""
    history: int = 50
    """Translated images kept for each discriminator, over all ranks; 0 shows it the newest only."""

    def __post_init__(self) -> None:
        for name in ("steps", "rounds", "blocks", "width", "discriminator_width"):
            require(getattr(self, name) >= 1, f"translate.{name}", "must be 1 or more")
        for name in ("cycle", "identity", "perceptual", "perceptual_cycle", "history"):
            require(getattr(self, name) >= 0, f"translate.{name}", "must be 0 or more")
        require(0 <= self.hold < 1, "translate.hold", "must be 0 or more and below 1")
        require(0 <= self.mirror <= 1, "translate.mirror", "is a probability between 0 and 1")
        require(self.lr > 0, "translate.lr", "must be positive")
        require(
            self.crop >= 32 and self.crop % STRIDE == 0,
            "translate.crop",
            f"must be a multiple of {STRIDE} of at least 32, not {self.crop}",
        )
        require(self.load >= self.crop, "translate.load", f"{self.load} is narrower than translate.crop={self.crop}")
