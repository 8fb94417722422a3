"""The exact scores in torch eager, on any device: the bits of ``spec`` by elementwise operations only.

Each torch call below is one IEEE operation per element, so neither threads nor tiles nor the device can change a bit.
Rows are taken in strips with scratch that is used again, so the memory stays at a few planes of one strip.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from esl_dist.pseudo_labels.scores.constants import (
    EXP_MIN,
    EXP_POLYNOMIAL,
    LN2_HIGH,
    LN2_LOW,
    LOG2_E,
    LOG_POLYNOMIAL,
    ROUND,
    SQRT_HALF_BITS,
    TINY,
    inverse_log,
)
from esl_dist.pseudo_labels.scores.coordinates import positions
from esl_dist.pseudo_labels.scores.kinds import MARGINS, Kind

STRIP_ROWS = 64


def _exp(x: Tensor) -> Tensor:
    clamped = x.clamp_min(EXP_MIN)
    n = clamped.mul(LOG2_E).add_(ROUND).sub_(ROUND)
    r = clamped.sub_(n * LN2_HIGH).sub_(n * LN2_LOW)
    p = torch.full_like(r, EXP_POLYNOMIAL[0])
    for coefficient in EXP_POLYNOMIAL[1:]:
        p.mul_(r).add_(coefficient)
    p.mul_(r * r).add_(r).add_(1.0)
    bits = p.view(torch.int32) + n.to(torch.int32).bitwise_left_shift_(23)
    return bits.view(torch.float32).masked_fill_(x < EXP_MIN, 0.0)


class _Log:
    """Natural logarithm into given scratch: allocating inside the class loop would cost more than the arithmetic."""

    def __init__(self, rows: int, width: int, device: torch.device) -> None:
        self.scratch = [torch.empty(rows, width, device=device) for _ in range(3)]
        self.integers = torch.empty(rows, width, dtype=torch.int32, device=device)

    def __call__(self, q: Tensor, out: Tensor) -> Tensor:
        """``out <- log(max(q, 2^-126))``; ``out`` must not be ``q``."""
        rows = len(q)
        f, e, y = (scratch[:rows] for scratch in self.scratch)
        exponent = self.integers[:rows]
        torch.clamp_min(q, TINY, out=out)
        bits = out.view(torch.int32)
        torch.sub(bits, SQRT_HALF_BITS, out=exponent)
        e.copy_(exponent.bitwise_right_shift_(23))
        bits.sub_(exponent.bitwise_left_shift_(23))
        torch.sub(out, 1.0, out=f)
        torch.mul(f, LOG_POLYNOMIAL[0], out=y).add_(LOG_POLYNOMIAL[1])
        for coefficient in LOG_POLYNOMIAL[2:]:
            y.mul_(f).add_(coefficient)
        z = torch.mul(f, f, out=out)
        y.mul_(f).mul_(z)
        y.add_(torch.mul(e, LN2_LOW, out=exponent.view(torch.float32)))
        y.sub_(z.mul_(0.5))
        return torch.add(f, y, out=out).add_(e.mul_(LN2_HIGH))


def wide_probabilities(logits_chw: Tensor, width: int) -> Tensor:
    """Softmax, interpolated along the width only: float32 ``[C, h, W]``."""
    e = _exp(logits_chw - logits_chw.amax(0))
    total = e[0].clone()
    for plane in e[1:]:
        total += plane
    p = e.div_(total)
    left, right, weight = _positions(p.shape[2], width, p.device)
    a = _columns(p, left)
    return _columns(p, right).sub_(a).mul_(weight).add_(a)


def _columns(p: Tensor, columns: Tensor) -> Tensor:
    if p.device.type == "cpu":  # a copy of the same numbers, ten times faster than torch's along the last axis
        return torch.from_numpy(np.take(p.numpy(), columns.numpy(), axis=2))
    return p.index_select(2, columns)


@lru_cache(maxsize=64)
def _positions(n_in: int, n_out: int, device: torch.device) -> tuple[Tensor, ...]:
    """``coordinates.positions`` on a device, copied there once and not for every image: a copy waits."""
    with torch.inference_mode(False):
        return tuple(torch.from_numpy(table.copy()).to(device) for table in positions(n_in, n_out))


def score(logits_chw: Tensor, size_hw: tuple[int, int], kinds: Sequence[Kind]) -> tuple[Tensor, dict[Kind, Tensor]]:
    """Label (uint8) and the wanted confidences (float32), each ``[H, W]`` on the logits' device."""
    height, width = size_hw
    device = logits_chw.device
    wide = wide_probabilities(logits_chw.float(), width)
    top, bottom, weight = _positions(wide.shape[1], height, device)
    label = torch.zeros(size_hw, dtype=torch.uint8, device=device)
    best = torch.full(size_hw, -1.0, device=device)
    entropy = torch.zeros(size_hw, device=device) if "entropy" in kinds else None
    second = torch.zeros(size_hw, device=device) if MARGINS & set(kinds) else None
    odds = torch.empty(size_hw, device=device) if "logit_margin" in kinds else None
    rows = min(STRIP_ROWS, height)
    p_scratch, q_scratch = (torch.empty(rows, width, device=device) for _ in range(2))
    wins_scratch = torch.empty(rows, width, dtype=torch.bool, device=device)
    log = _Log(rows, width, device)
    for start in range(0, height, rows):
        strip = slice(start, min(start + rows, height))
        n = strip.stop - start
        p, q, wins = p_scratch[:n], q_scratch[:n], wins_scratch[:n]
        for index, plane in enumerate(wide):
            torch.index_select(plane, 0, top[strip], out=p)
            torch.index_select(plane, 0, bottom[strip], out=q)
            q.sub_(p).mul_(weight[strip, None]).add_(p)
            if second is not None:
                torch.maximum(second[strip], torch.minimum(q, best[strip], out=p), out=second[strip])
            torch.gt(q, best[strip], out=wins)
            # classes come in rising order, so the label is the largest that has won; a masked fill is forty times
            # slower
            torch.maximum(label[strip], wins.view(torch.uint8) * index, out=label[strip])
            torch.maximum(best[strip], q, out=best[strip])
            if entropy is not None:
                entropy[strip].sub_(log(q, p).mul_(q))
        if odds is not None and second is not None:
            torch.sub(log(best[strip], p), log(second[strip], q), out=odds[strip])
    maps: dict[Kind, Tensor] = {}
    if entropy is not None:
        maps["entropy"] = entropy.mul_(float(inverse_log(len(wide)))).clamp_min_(0)
    if odds is not None:
        maps["logit_margin"] = odds.clamp_min_(0)
    if second is not None and "margin" in kinds:
        maps["margin"] = best - second
    if "probability" in kinds:
        maps["probability"] = best
    return label, maps


def relabel(prob_chw: Tensor, thresholds: Tensor) -> Tensor:
    """CBST's labels from probabilities ``[C, H, W]``: uint8 ``argmax_c P_c / t_c``, 255 where that ratio is below 1."""
    label = torch.zeros(prob_chw.shape[1:], dtype=torch.uint8, device=prob_chw.device)
    best = torch.full(label.shape, -1.0, device=label.device)
    for index, plane in enumerate(prob_chw):
        ratio = plane / thresholds[index]
        label.masked_fill_(ratio > best, index)
        torch.maximum(best, ratio, out=best)
    return label.masked_fill_(best < 1, 255)


def probabilities(logits_chw: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Softmax upsampled as probabilities, float32 ``[C, H, W]``, the bits of ``spec.probabilities``."""
    wide = wide_probabilities(logits_chw.float(), size_hw[1])
    top, bottom, weight = _positions(wide.shape[1], size_hw[0], wide.device)
    a = wide.index_select(1, top)
    return wide.index_select(1, bottom).sub_(a).mul_(weight[:, None]).add_(a)
