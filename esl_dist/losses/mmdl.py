"""Classes as several modes of an embedding space, and modes that two domains share: the losses of DRSL (Iqbal et al.,
2022, arXiv 2206.09683).

From the paper's abstract: a class-aware multi-modal distribution learning (MMDL) head beside the segmentation head, a
distance-metric loss on (pseudo-)labels that regularises the shared base, and stochastic mode alignment, which brings
sampled target pixels closer to source pixels of the same mode. Its equations are not public to us. Those below are
ours, on top of representative-based metric learning (Karlinsky et al., RepMet, CVPR 2019).

Shapes: ``N`` images, ``S`` sampled pixels of each, ``d`` embedding dimensions, ``C`` classes of ``K`` modes. A mode's
number is ``class * K + k``; -1 is a pixel of no mode. Embeddings and representatives have length 1, so squared
distances are in [0, 4].
"""

from __future__ import annotations

import contextlib
import math
from typing import NamedTuple

import torch
from torch import Tensor

from esl_dist.losses.precision import wide
from esl_dist.losses.segmentation import segmentation_loss

NO_MODE = -1
_CLOSEST = 1e-12
"""Squared distances below it count as it: the root has a gradient everywhere."""


def squared_distances(embedding: Tensor, representatives: Tensor) -> Tensor:
    """``|e - r_ck|^2``: ``[N, S, d]`` and ``[C, K, d]`` to ``[N, S, C, K]``, float32 or better also under autocast."""
    embedding, representatives = wide(embedding), wide(representatives)
    with _no_autocast(embedding):
        products = embedding @ representatives.flatten(0, 1).T
    squared = embedding.square().sum(-1, keepdim=True) - 2 * products + representatives.square().sum(-1).flatten()
    clamped: Tensor = squared.clamp_min(0)
    return clamped.view(*embedding.shape[:-1], *representatives.shape[:2])


def mode_cross_entropy(squared: Tensor, labels: Tensor, sigma: float, valid: Tensor | float | None = None) -> Tensor:
    """``-sum log p(y | e) / valid`` with ``p(c | e)`` proportional to ``max_k exp(-|e - r_ck|^2 / 2 sigma^2)``. 0-dim,
    in nats.

    Args:
        squared: ``[N, S, C, K]``.
        labels: ``[N, S]``, any integer type; values outside ``[0, C)`` are ignored.
        valid: what the sum is divided by, as in ``segmentation_loss``.
    """
    logits = -squared.amin(-1) / (2 * sigma**2)
    return segmentation_loss(logits.movedim(-1, 1), labels, valid)


def mode_hinge(squared: Tensor, labels: Tensor, margin: float, valid: Tensor | float) -> Tensor:
    """``sum [min_k |e - r_yk| - min_{c != y, k} |e - r_ck| + margin]_+ / valid``: the own class is nearer than any
    other, by ``margin``. 0-dim.

    Arguments as of ``mode_cross_entropy``.
    """
    nearest = squared.amin(-1).clamp_min(_CLOSEST).sqrt()
    own = labels[..., None] == torch.arange(nearest.shape[-1], device=labels.device)
    distance = nearest.masked_fill(~own, 0).sum(-1)
    other = nearest.masked_fill(own, torch.inf).amin(-1)
    violation = (distance - other + margin).clamp_min(0) * own.any(-1)
    return violation.sum() / valid


def mode_balance(squared: Tensor, labels: Tensor, usage: Tensor, sigma: float, valid: Tensor | float) -> Tensor:
    """``sum K usage_yk softmax_k(-|e - r_yk|^2 / 2 sigma^2) / valid``: 1 where a class's modes share its pixels evenly,
    up to K where one has all. 0-dim.

    With the nearest mode alone in the loss, modes that are nobody's nearest never learn, and a class ends with one.
    This is the load balancing of mixtures of experts (Fedus et al., Switch Transformer, JMLR 2022), a class's modes as
    its experts.

    Args:
        usage: ``[C, K]``, how the pixels of each class have spread over its modes lately; rows sum to 1. A constant.
    """
    c, k = squared.shape[-2:]
    known = labels < c
    own = torch.where(known, labels, 0).long()
    # Of one class each, as a sum of one term: the gradient of a gather waits for the host on CUDA.
    of_own = own[..., None] == torch.arange(c, device=own.device)
    to_modes = torch.where(of_own[..., None], squared, 0).sum(-2)
    responsible = torch.softmax(to_modes / (-2 * sigma**2), dim=-1)
    load = k * (wide(usage)[own] * responsible).sum(-1)
    return torch.where(known, load, 0).sum() / valid


@torch.no_grad()
def modes_of(squared: Tensor, labels: Tensor | None) -> Tensor:
    """The nearest mode of each pixel's class, of any class without labels: ``[N, S, C, K]`` to int64 ``[N, S]``, -1
    where the label is no class.
    """
    c, k = squared.shape[-2:]
    if labels is None:
        return squared.flatten(-2).argmin(-1)
    known = labels < c
    own = torch.where(known, labels, 0).long()
    within = squared.argmin(-1).gather(-1, own[..., None])[..., 0]
    return torch.where(known, own * k + within, NO_MODE)


class Moments(NamedTuple):
    """Per mode, of a pool of embeddings: how many ``[M]``, their mean ``[M, d]`` and their mean squared length ``[M]``;
    0 for a mode without any.
    """

    members: Tensor
    mean: Tensor
    square: Tensor


def mode_moments(embedding: Tensor, modes: Tensor, num_modes: int) -> Moments:
    """Moments of ``[P, d]`` embeddings with mode numbers ``[P]`` (-1 is left out). Sums as one product, so in a fixed
    order on any device.
    """
    embedding = wide(embedding)
    member = (modes[:, None] == torch.arange(num_modes, device=modes.device)).to(embedding.dtype)
    count = member.sum(0)
    with _no_autocast(embedding):
        total, square = member.T @ embedding, member.T @ embedding.square().sum(-1)
    known = count.clamp_min(1)
    return Moments(count, total / known[:, None], square / known)


def mode_alignment(embedding: Tensor, modes: Tensor, pool: Moments) -> tuple[Tensor, Tensor]:
    """Mean squared distance of each pixel to all pool members of its mode, ``|e|^2 - 2 e.mean + square``, and whether
    there are any.

    The expectation of drawing a partner at random, so no pair is ever formed. A pixel without partner has distance 0.

    Args:
        embedding: ``[N, S, d]``.
        modes: int64 ``[N, S]``.
        pool: constants; its gradient, if any, flows too.

    Returns:
        Distances ``[N, S]`` and a boolean ``[N, S]``.
    """
    embedding, own = wide(embedding), modes.clamp_min(0)
    partnered = (modes != NO_MODE) & (pool.members[own] > 0)
    distance = embedding.square().sum(-1) - 2 * (embedding * pool.mean[own]).sum(-1) + pool.square[own]
    return torch.where(partnered, distance, 0), partnered


def without(pool: Moments) -> Moments:
    """For each mode the moments of all *other* modes' members together."""
    count = pool.members.sum() - pool.members
    total, square = pool.members[:, None] * pool.mean, pool.members * pool.square
    known = count.clamp_min(1)
    return Moments(count, (total.sum(0) - total) / known[:, None], (square.sum() - square) / known)


def usage_entropy(count: Tensor) -> Tensor:
    """Entropy of how a class's pixels spread over its modes, over log K: ``[C, K]`` counts to ``[C]`` in [0, 1]; NaN
    for a class without pixels.

    1: all modes alike; 0: one mode has them all, or there is only one.
    """
    share = wide(count) / count.sum(-1, keepdim=True)
    entropy: Tensor = -torch.special.xlogy(share, share).sum(-1)
    return entropy / math.log(max(count.shape[-1], 2))


def _no_autocast(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """A matrix product inside would run in half precision otherwise."""
    return torch.autocast(x.device.type, enabled=False)
