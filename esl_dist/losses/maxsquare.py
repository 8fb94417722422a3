"""Maximum squares loss, image-wise weighting and self-produced guidance (Chen, Xue and Cai, ICCV 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from esl_dist.labels import IGNORE
from esl_dist.losses.precision import wide


def max_square_loss(prob: Tensor) -> Tensor:
    """``-sum P^2 / (2 N C H W)`` (MaxSquare, eq. 5, with the public code's mean over classes too). ``[N, C, H, W]`` to
    0-dim, in [-1/(2C), 0).
    """
    return -0.5 * wide(prob).square().mean()


def image_weighted_max_square_loss(prob: Tensor, ratio: float = 0.2) -> Tensor:
    """``-1/(N C) sum_n sum_x w_n(argmax P(x)) P(x)^2`` with ``w_n(c) = 1 / max(n_c^ratio n^(1 - ratio), 1)``
    (MaxSquare, eqs. 8 and 9).

    ``n_c`` counts the pixels of one image whose most probable class is c, ``n`` all its pixels: rare classes weigh
    more, image by image. A mean over images, so the mean over ranks of equal batches is the loss of the global batch.
    No gradient flows through the weights.

    Args:
        prob: ``[N, C, H, W]`` probabilities.
        ratio: alpha in [0, 1]; 0 weighs all classes alike.
    """
    prob = wide(prob)
    n, c, h, w = prob.shape
    with torch.no_grad():
        predicted = prob.argmax(dim=1, keepdim=True)
        classes = torch.arange(c, device=prob.device).view(1, c, 1, 1)
        count = (predicted == classes).sum(dim=(2, 3)).float()  # not bincount, which waits for the device
        pixels = count.new_full((), float(h * w))
        weight = 1 / (count.pow(ratio) * pixels.pow(1 - ratio)).clamp_min(
            1
        )  # float32 also for float64 maps, as published
        weight_n1hw = weight.gather(1, predicted.flatten(1)).view(n, 1, h, w)
    total: Tensor = (weight_n1hw * prob.square()).sum()
    return -total / (n * c)


@torch.no_grad()
def guidance_labels(prob_main: Tensor, prob_aux: Tensor, threshold: float = 0.95) -> Tensor:
    """Self-produced guidance for the aux head (MaxSquare, section 3.4): uint8 ``[N, H, W]``, 255 where neither head is
    confident.

    ``argmax_c (P_main + P_aux) / 2`` where ``max P_main > threshold`` or ``max P_aux > threshold``.
    """
    main, aux = wide(prob_main), wide(prob_aux)
    assert main.shape == aux.shape and main.shape[1] <= IGNORE
    confident = (main.amax(dim=1) > threshold) | (aux.amax(dim=1) > threshold)
    labels = ((main + aux) / 2).argmax(dim=1)
    return torch.where(confident, labels, IGNORE).to(torch.uint8)
