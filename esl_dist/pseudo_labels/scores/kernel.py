"""The exact scores as a Triton kernel for CUDA: labels, scores and first-pass histograms; probabilities never exist at
full size.

A program takes one band of output rows (those between the same two input rows) and a block of columns. What keeps the
bits of
``spec``: no library logarithm, no division in the kernel (the softmax is made by ``eager`` at low resolution), fused
    multiply-add switched off explicitly, histograms of integers (their order cannot matter).
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

import torch
import triton
import triton.language as tl
from torch import Tensor

from esl_dist.pseudo_labels.scores import constants as k
from esl_dist.pseudo_labels.scores import eager
from esl_dist.pseudo_labels.scores.coordinates import positions
from esl_dist.pseudo_labels.scores.keys import high_bins
from esl_dist.pseudo_labels.scores.kinds import KINDS, Kind

ROWS, COLUMNS = 8, 128


@triton.jit
def _log(q):
    q = tl.maximum(q, 1.1754943508222875e-38)
    bits = q.to(tl.int32, bitcast=True)
    d = (bits - 0x3F3504F3) >> 23
    f = (bits - (d << 23)).to(tl.float32, bitcast=True) - 1.0
    e = d.to(tl.float32)
    z = f * f
    p = f * 7.0376836292e-2 + -1.1514610310e-1
    p = p * f + 1.1676998740e-1
    p = p * f + -1.2420140846e-1
    p = p * f + 1.4249322787e-1
    p = p * f + -1.6668057665e-1
    p = p * f + 2.0000714765e-1
    p = p * f + -2.4999993993e-1
    p = p * f + 3.3333331174e-1
    y = p * f * z
    y = y + e * -2.12194440e-4
    y = y - 0.5 * z
    return (f + y) + e * 0.693359375


@triton.jit
def _emit(value, out, high, place, label, inside, BINS: tl.constexpr, WANTED: tl.constexpr, COUNTED: tl.constexpr):
    """Store one confidence of a block where it is wanted, and count its upper digits per class where that is."""
    if WANTED:
        tl.store(out + place, value, mask=inside)
    if COUNTED:
        digit = (value.to(tl.int32, bitcast=True) & 0x7FFFFFFF) >> 16
        ones = tl.full(value.shape, 1, tl.int64)
        tl.atomic_add(high + label * BINS + tl.minimum(digit, BINS - 1), ones, mask=inside, sem="relaxed")


@triton.jit
def _scores(
    wide,
    first_row,
    row_count,
    top,
    bottom,
    weight,
    label_out,
    entropy_out,
    best_out,
    margin_out,
    logit_margin_out,
    high_entropy,
    high_best,
    high_margin,
    high_logit_margin,
    width,
    plane,
    scale,
    NUM_CLASSES: tl.constexpr,
    BINS: tl.constexpr,
    LOGIT_BINS: tl.constexpr,
    WANTED: tl.constexpr,
    COUNTED: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """``WANTED`` and ``COUNTED`` are bits: 1 entropy, 2 probability, 4 margin, 8 margin of logits."""
    band = tl.program_id(1)
    x = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside_x = x < width
    rows = tl.arange(0, ROWS)
    y = tl.load(first_row + band) + rows
    inside_y = rows < tl.load(row_count + band)
    inside = inside_y[:, None] & inside_x[None, :]
    w = tl.load(weight + y, mask=inside_y, other=0.0)[:, None]
    upper = wide + tl.load(top + band) * width + x
    lower = wide + tl.load(bottom + band) * width + x
    best = tl.full((ROWS, COLUMNS), -1.0, tl.float32)
    second = tl.zeros((ROWS, COLUMNS), tl.float32)
    label = tl.zeros((ROWS, COLUMNS), tl.int32)
    total = tl.zeros((ROWS, COLUMNS), tl.float32)
    for c in range(NUM_CLASSES):
        a = tl.load(upper + c * plane, mask=inside_x, other=0.0)[None, :]
        b = tl.load(lower + c * plane, mask=inside_x, other=0.0)[None, :]
        q = (b - a) * w + a
        if WANTED & 12:
            second = tl.maximum(second, tl.minimum(q, best))
        wins = q > best
        label = tl.where(wins, c, label)
        best = tl.where(wins, q, best)
        if WANTED & 1:
            total = total - q * _log(q)
    place = y[:, None] * width + x[None, :]
    tl.store(label_out + place, label.to(tl.uint8), mask=inside)
    entropy = tl.maximum(total * scale, 0.0)
    _emit(entropy, entropy_out, high_entropy, place, label, inside, BINS, WANTED & 1, COUNTED & 1)
    _emit(best, best_out, high_best, place, label, inside, BINS, WANTED & 2, COUNTED & 2)
    _emit(best - second, margin_out, high_margin, place, label, inside, BINS, WANTED & 4, COUNTED & 4)
    if WANTED & 8:
        odds = tl.maximum(_log(best) - _log(second), 0.0)
        _emit(odds, logit_margin_out, high_logit_margin, place, label, inside, LOGIT_BINS, WANTED & 8, COUNTED & 8)


@lru_cache(maxsize=16)
def _bands(n_in: int, n_out: int, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Per band of at most ``ROWS`` output rows between the same input rows: first row, rows, top, bottom; and every
    row's weight.
    """
    top, bottom, weight = (torch.from_numpy(table.copy()) for table in positions(n_in, n_out))
    starts: list[int] = []
    for y in range(n_out):
        if not starts or top[y] != top[y - 1] or y - starts[-1] == ROWS:
            starts.append(y)
    start = torch.tensor(starts)
    count = torch.diff(start, append=torch.tensor([n_out]))
    first_row, row_count, band_top, band_bottom, weights = (
        table.to(device) for table in (start.int(), count.int(), top[start], bottom[start], weight)
    )
    return first_row, row_count, band_top, band_bottom, weights


def score(
    logits_chw: Tensor,
    size_hw: tuple[int, int],
    kinds: Sequence[Kind],
    high: Mapping[Kind, Tensor] = MappingProxyType({}),
) -> tuple[Tensor, dict[Kind, Tensor]]:
    """Label (uint8) and the wanted confidences (float32), each ``[H, W]`` on the logits' device.

    Every pixel is also added to the int64 histograms ``[C, bins]`` of ``high``, whose confidences must be among
    ``kinds``.
    """
    height, width = size_hw
    device = logits_chw.device
    wide = eager.wide_probabilities(logits_chw.float(), width)
    first_row, row_count, top, bottom, weight = _bands(wide.shape[1], height, str(device))
    label = torch.empty(size_hw, dtype=torch.uint8, device=device)
    maps = {kind: torch.empty(size_hw, device=device) for kind in KINDS if kind in kinds}
    grid = (triton.cdiv(width, COLUMNS), len(first_row))
    _scores[grid](
        wide,
        first_row,
        row_count,
        top,
        bottom,
        weight,
        label,
        *(maps.get(kind, label) for kind in KINDS),  # what is not wanted is not written: any pointer will do
        *(high.get(kind, label) for kind in KINDS),
        width,
        wide.shape[1] * width,
        float(k.inverse_log(len(wide))),
        NUM_CLASSES=len(wide),
        BINS=high_bins("entropy"),
        LOGIT_BINS=high_bins("logit_margin"),
        WANTED=_bits(maps),
        COUNTED=_bits(high),
        ROWS=ROWS,
        COLUMNS=COLUMNS,
        enable_fp_fusion=False,
    )
    return label, maps


def _bits(kinds: Iterable[Kind]) -> int:
    return sum(1 << KINDS.index(kind) for kind in kinds)
