"""Networks: DeepLab-v2 and its discriminator, built from a configuration and a seed, and every lineage's checkpoints
(``weights``).
"""

from __future__ import annotations

import torch

from esl_dist.config.modes import MmdlConfig
from esl_dist.config.schema import ModelConfig, TranslateConfig
from esl_dist.models import deeplabv2, discriminator, mmdl, translation
from esl_dist.models.deeplabv2 import DeepLabV2, Outputs
from esl_dist.models.discriminator import Discriminator
from esl_dist.models.mmdl import ModeHead
from esl_dist.models.translation import Generator, PatchDiscriminator

__all__ = [
    "DeepLabV2",
    "Discriminator",
    "Generator",
    "ModeHead",
    "Outputs",
    "PatchDiscriminator",
    "build_discriminator",
    "build_mode_head",
    "build_segmenter",
    "build_translation",
]


def build_segmenter(config: ModelConfig, num_classes: int, seed: int) -> DeepLabV2:
    """The network of ``config`` on the CPU, float32, every weight a function of ``seed``; ``config.checkpoint`` is not
    read.

    ``bn=frozen`` freezes the statistics here; ``bn=sync`` is a conversion that needs the process group and is made by
    the caller.
    """
    with torch.device("meta"):  # no storage, no draw from the global generator
        model = DeepLabV2(num_classes, config.layers, config.multi_level, config.aspp_branches, config.width)
    deeplabv2.initialise(model.to_empty(device="cpu"), seed, config.init)
    return model.freeze_statistics() if config.bn == "frozen" else model


def build_translation(config: TranslateConfig, seed: int) -> tuple[Generator, PatchDiscriminator]:
    """A generator and the discriminator of its output domain on the CPU, float32, every weight a function
    of ``seed``.
    """
    with torch.device("meta"):
        generator, discriminator = (
            Generator(config.blocks, config.width),
            PatchDiscriminator(config.discriminator_width),
        )
    return translation.initialise(generator.to_empty(device="cpu"), 2 * seed), translation.initialise(
        discriminator.to_empty(device="cpu"), 2 * seed + 1
    )


def build_discriminator(config: ModelConfig, num_classes: int, seed: int) -> Discriminator:
    """A discriminator of ``num_classes`` maps on the CPU, float32, every weight a function of ``seed``."""
    with torch.device("meta"):
        model = Discriminator(num_classes, config.discriminator_width)
    return discriminator.initialise(model.to_empty(device="cpu"), seed)


def build_mode_head(config: MmdlConfig, segmenter: DeepLabV2, seed: int) -> ModeHead:
    """The head of ``config`` on ``segmenter``'s last layer, on the CPU, float32, every weight a function of
    ``seed``.
    """
    with torch.device("meta"):
        head = ModeHead(segmenter.width * 8 * deeplabv2.EXPANSION, segmenter.num_classes, config.modes, config.dim)
    return mmdl.initialise(head.to_empty(device="cpu"), seed)
