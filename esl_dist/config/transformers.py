"""Options of the transformer segmenters, below ``model.daformer`` and ``model.dinov2``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from esl_dist.config.bounds import BelowOne, Bound, NonNegativeInt
from esl_dist.config.check import require


@dataclass(frozen=True)
class DaFormerConfig:
    """DAFormer's network (Hoyer et al., 2022): a Mix Transformer and its decoder. DAFormer, HRDA and MIC train it."""

    encoder: Literal["b0", "b1", "b2", "b3", "b4", "b5", "tiny"] = "b5"
    """Size of the Mix Transformer; ``tiny`` is for tests and publishes nothing."""
    channels: Annotated[int, Bound(8, 4096)] = 256
    """Of the decoder."""
    drop_path: BelowOne = 0.1
    """Stochastic depth of the encoder's last block; it rises from 0 at the first."""
    checkpointing: bool = False
    """Compute the activations inside the encoder's blocks again in the backward: less memory, more time, the same
    bits.
    """
    init: Literal["random"] = "random"
    """Weights before ``model.checkpoint`` is loaded."""

    @property
    def multi_level(self) -> bool:
        """There is no aux head."""
        return False


@dataclass(frozen=True)
class DinoV2Config:
    """DINOv2 with VFM-UDA's light decoder, or VFM-UDA++'s adapter and pyramid head (Englert et al., 2024, 2025)."""

    encoder: Literal["small", "base", "large", "giant", "tiny"] = "base"
    """Size of the vision transformer; ``tiny`` is for tests and publishes nothing."""
    decoder: Literal["light", "pyramid"] = "light"
    """light (VFM-UDA), or pyramid: with a ViT-Adapter (VFM-UDA++)."""
    drop_path: BelowOne = 0.0
    """Stochastic depth of the last block; it rises from 0 at the first."""
    checkpointing: bool = False
    """Compute the activations inside blocks again in the backward: less memory, more time, the same bits."""
    soma_rank: NonNegativeInt = 0
    """Above 0 the encoder is frozen but for so many of the smallest singular triplets of each matrix (SoMA: 16)."""
    soma_first: NonNegativeInt = 8
    """First block, from 0, that learns so."""
    init: Literal["random"] = "random"
    """Weights before ``model.checkpoint`` is loaded."""

    def __post_init__(self) -> None:
        frozen = self.soma_rank > 0
        require(not (frozen and self.decoder == "pyramid"), "model.dinov2.soma_rank", "is for decoder=light")
        require(not (frozen and self.encoder == "giant"), "model.dinov2.soma_rank", "is not defined for giant")

    @property
    def multi_level(self) -> bool:
        """There is no aux head."""
        return False
