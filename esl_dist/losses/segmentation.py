"""Cross-entropy over labelled pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from esl_dist.losses.precision import wide

IGNORED = -100


def segmentation_loss(
    logits: Tensor, labels: Tensor, valid: Tensor | float | None = None, class_weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy ``-sum over valid pixels of log softmax(logits)[label] / valid``, in nats (Vu et al., ADVENT, eq.
    1).

    Args:
        logits: ``[N, C, H, W]``, any floating type.
        labels: ``[N, H, W]``, any integer type; values outside ``[0, C)`` are ignored.
        valid: what the sum is divided by: 0-dim tensor or number. None takes this batch's own count. Under data
            parallelism
            pass the valid pixels of the global batch divided by the world size, since gradients are averaged over
            ranks.
        class_weights: ``[C]``, floating: what a pixel counts by its label; ``valid`` is then the sum of the valid
            pixels' weights, and the loss their weighted mean.

    Returns:
        0-dim, float32 (float64 for float64 logits). Without any valid pixel: zero, with zero gradients.
    """
    assert labels.shape == (
        logits.shape[0],
        *logits.shape[2:],
    ), f"labels {tuple(labels.shape)} for logits {tuple(logits.shape)}"
    target = labels.long()
    target = torch.where((target >= 0) & (target < logits.shape[1]), target, IGNORED)
    known = target != IGNORED
    weights = None if class_weights is None else class_weights[torch.where(known, target, 0)] * known
    # Summed afterwards, because the built-in sum over a map adds in no fixed order on CUDA.
    losses = F.cross_entropy(wide(logits), target, ignore_index=IGNORED, reduction="none")
    total = losses.sum() if weights is None else (losses * weights).sum()
    if valid is None:
        valid = (
            known.sum().clamp_min(1) if weights is None else weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        )
    if isinstance(valid, Tensor):
        valid = valid.to(total.dtype)  # two 0-dim tensors would promote to the wider type
    return total / valid
