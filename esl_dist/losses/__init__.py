"""Losses as pure functions of tensors, in float32 or float64, without a wait for the device."""

from esl_dist.losses.adversarial import domain_loss
from esl_dist.losses.entropy import entropy_loss, self_information
from esl_dist.losses.maxsquare import guidance_labels, image_weighted_max_square_loss, max_square_loss
from esl_dist.losses.segmentation import segmentation_loss
from esl_dist.losses.upsampling import (
    upsample,
    upsampled_information,
    upsampled_probabilities,
    upsampled_segmentation_loss,
)

__all__ = [
    "domain_loss",
    "entropy_loss",
    "guidance_labels",
    "image_weighted_max_square_loss",
    "max_square_loss",
    "segmentation_loss",
    "self_information",
    "upsample",
    "upsampled_information",
    "upsampled_probabilities",
    "upsampled_segmentation_loss",
]
