"""Networks, built from a configuration and a seed: segmenters behind one seam (``segmenter``, ``builders``), their
discriminators and further heads, and every lineage's checkpoints (``weights``).
"""

from __future__ import annotations

import torch

from esl_dist.config.modes import MmdlConfig
from esl_dist.config.schema import ModelConfig, TranslateConfig
from esl_dist.models import discriminator, mmdl, translation
from esl_dist.models.builders import SEGMENTERS, build_segmenter, empty_segmenter, sketch_segmenter
from esl_dist.models.deeplabv2 import DeepLabV2
from esl_dist.models.discriminator import Discriminator
from esl_dist.models.mmdl import ModeHead
from esl_dist.models.normalisation import Normalisation
from esl_dist.models.segmenter import Outputs, ParameterGroup, Segmenter
from esl_dist.models.translation import Generator, PatchDiscriminator

__all__ = [
    "SEGMENTERS",
    "DeepLabV2",
    "Discriminator",
    "Generator",
    "ModeHead",
    "Normalisation",
    "Outputs",
    "ParameterGroup",
    "PatchDiscriminator",
    "Segmenter",
    "build_discriminator",
    "build_mode_head",
    "build_segmenter",
    "build_translation",
    "empty_segmenter",
    "sketch_segmenter",
]


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


def build_mode_head(config: MmdlConfig, segmenter: Segmenter, seed: int) -> ModeHead:
    """The head of ``config`` on ``segmenter``'s features, on the CPU, float32, every weight a function of
    ``seed``.
    """
    with torch.device("meta"):
        head = ModeHead(segmenter.feature_channels, segmenter.num_classes, config.modes, config.dim)
    return mmdl.initialise(head.to_empty(device="cpu"), seed)
