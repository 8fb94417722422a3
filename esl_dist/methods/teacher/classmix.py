"""ClassMix across domains: the pixels of half of the source's classes pasted onto the target image.

Olsson et al., "ClassMix" (WACV 2021), as DACS (Tranheden et al., WACV 2021) uses it. The papers draw half of the
classes of *the image*; the published code draws half of the classes of *the batch*, an ignored area being one more
class, so that some drawn classes are absent and unlabelled pixels may hide the target. Both are here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from esl_dist.data.prefetch import sent
from esl_dist.data.sampler import hashes

Classes = Literal["batch", "image"]


def class_counts(labels: Tensor, num_classes: int) -> Tensor:
    """Pixels of each class of each image, then of no class: ``[n, H, W]`` to int64 ``[n, C + 1]``.

    Added over a step's images and over the ranks, this is the class list of the global batch and its valid pixels at
    once.
    """
    images, kinds = len(labels), num_classes + 1
    first = torch.arange(images, device=labels.device)[:, None] * kinds
    cell = (labels.flatten(1).long().clamp_max(num_classes) + first).flatten()
    # In one dimension: torch's deterministic form on CUDA waits for a copy from the host in any other.
    counts = torch.zeros(images * kinds, dtype=torch.int64, device=labels.device)
    return counts.scatter_add_(0, cell, torch.ones_like(cell)).view(images, kinds)


def draw_classes(present: Tensor, seed: int, positions: Sequence[int]) -> Tensor:
    """Half of the classes that are present, rounded up, every choice alike: bool ``[n, C + 1]``.

    Args:
        present: bool ``[n, C + 1]``, a row per image (the same rows where the list is the batch's).
        seed: of this purpose (``draws.stream``).
        positions: of the images; each draws its own.
    """
    keys = np.stack([hashes(seed, position, present.shape[1]) >> np.uint64(1) for position in positions])
    key = sent(torch.from_numpy(keys.view(np.int64)), present.device)
    before = (key[:, None, :] < key[:, :, None]) & present[:, None, :]  # [image, class, class that comes first]
    half = (present.sum(dim=1, keepdim=True) + 1) // 2
    return present & (before.sum(dim=2) < half)


def listed(counts: Tensor, of_step: Tensor, classes: Classes) -> Tensor:
    """The class list of every image, bool ``[n, C + 1]``.

    Args:
        counts: of ``class_counts``, this micro-batch's images.
        of_step: int64 ``[C + 1]``, of all images of the step and all ranks.
    """
    if classes == "batch":
        return (of_step > 0).expand_as(counts)
    own = counts > 0
    own[:, -1] = False  # what is ignored is no class of an image
    return own


def paste_mask(labels: Tensor, chosen: Tensor) -> Tensor:
    """bool ``[n, H, W]``: where the source's pixel is taken, from its labels and the drawn classes ``[n, C + 1]``."""
    label = labels.long().clamp_max(chosen.shape[1] - 1)
    return chosen.gather(1, label.flatten(1)).view_as(labels)
