"""ViT-Adapter on DINOv2 with a pyramid head: VFM-UDA++'s network."""

from __future__ import annotations

from esl_dist.models.adapter.segmenter import VfmUdaPlus, build

__all__ = ["VfmUdaPlus", "build"]
