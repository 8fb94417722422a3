"""Distance of encoder features from those of a frozen reference network, where the labels show a thing.

Hoyer et al., DAFormer (CVPR 2022), sec. 3.3: self-training forgets what ImageNet taught about thing classes, so their
features are held near those of the network that the training began with.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from esl_dist.losses.precision import wide

IGNORED = 255
THINGS = frozenset(
    ("traffic light", "traffic sign", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
)
"""Names of the classes that are things, in the words of Cityscapes."""


def pooled_labels(labels: Tensor, size_hw: tuple[int, int], num_classes: int, share: float = 0.75) -> Tensor:
    """The class that most pixels of each cell have: ``[n, H, W]`` to uint8 ``[n, h, w]``.

    255 where the largest share is below ``share``, or is that of pixels without class. Of equal shares the first class.
    """
    best = torch.zeros((len(labels), *size_hw), device=labels.device)
    found = torch.full_like(best, IGNORED, dtype=torch.uint8)
    for c in range(num_classes + 1):
        of_class = labels == c if c < num_classes else labels >= num_classes
        pooled = F.adaptive_avg_pool2d(of_class.float()[:, None], size_hw)[:, 0]
        larger = pooled > best
        found.masked_fill_(larger, c if c < num_classes else IGNORED)
        best = torch.maximum(best, pooled)
    return found.masked_fill_(best < share, IGNORED)


def positions_of(pooled: Tensor, classes: Sequence[int]) -> Tensor:
    """bool ``[n, h, w]``: cells of ``pooled_labels`` that show one of ``classes``."""
    found = torch.zeros_like(pooled, dtype=torch.bool)
    for c in classes:
        found |= pooled == c
    return found


def thing_distance(features: Tensor, reference: Tensor, where: Tensor, count: Tensor | float) -> Tensor:
    """``sum over where of |F - F*|_2 / count``, the norm over channels. 0-dim; zero, with zero gradient, where there is
    none.

    Args:
        features, reference: ``[n, channels, h, w]``.
        where: bool ``[n, h, w]``.
        count: positions of the global batch divided by the world size (see ``Passes.globally_valid``).
    """
    squared = (wide(features) - wide(reference)).square().sum(dim=1)
    # The root has no gradient at 0, where both networks still agree; positions left out must not bring NaN into the
    # sum.
    distance = torch.where(where & (squared > 0), squared.clamp_min(torch.finfo(squared.dtype).tiny).sqrt(), 0)
    return distance.sum() / (count.to(distance.dtype) if isinstance(count, Tensor) else count)


def token_distance(features: Tensor, reference: Tensor) -> Tensor:
    """Per position ``[n, h, w]``, float32 or better: 0.1 of the smooth L1 distance, averaged over channels, and 0.9 of
    one minus the cosine (VFM-UDA++).
    """
    features, reference = wide(features), wide(reference)
    smooth = F.smooth_l1_loss(features, reference, reduction="none").mean(dim=1)
    return 0.1 * smooth + 0.9 * (1 - F.cosine_similarity(features, reference, dim=1))
