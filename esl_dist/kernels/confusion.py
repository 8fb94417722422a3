"""Argmax of upsampled logits and its confusion with a label in one Triton kernel: neither the upsampled logits nor the
prediction exist at full size.

The pixels are those of ``metrics/upsample.py``: where the four corners of a cell have one winner it wins the cell,
elsewhere the interpolated classes are compared in rising order, width first, products and sums rounded one by one
(fused multiply-add switched off). Counts are integers, so the order of programs cannot matter.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 1024
MOST_CLASSES = 63
"""Pairs of more would not fit the histogram that a program keeps."""


@triton.jit
def _count(
    wide,
    winner,
    rows,
    row_weight,
    columns,
    label,
    counts,
    h,
    w,
    width,
    CLASSES: tl.constexpr,
    BINS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    y = tl.program_id(1)
    x = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    inside = x < width
    i = tl.load(rows + y)
    t = tl.load(row_weight + y)
    s = 1.0 - t
    j = tl.load(columns + x, mask=inside, other=0)
    corner = winner + i * w + j
    a = tl.load(corner, mask=inside, other=0).to(tl.int32)
    b = tl.load(corner + 1, mask=inside, other=0).to(tl.int32)
    c = tl.load(corner + w, mask=inside, other=0).to(tl.int32)
    d = tl.load(corner + w + 1, mask=inside, other=0).to(tl.int32)
    best = tl.full((COLUMNS,), float("-inf"), tl.float32)
    found = tl.zeros((COLUMNS,), tl.int32)
    for k in range(CLASSES):
        upper = tl.load(wide + (k * h + i) * width + x, mask=inside, other=0.0)
        lower = tl.load(wide + (k * h + i + 1) * width + x, mask=inside, other=0.0)
        value = upper * s + lower * t
        wins = value > best
        found = tl.where(wins, k, found)
        best = tl.where(wins, value, best)
    found = tl.where((a == b) & (a == c) & (a == d), a, found)
    truth = tl.load(label + y * width + x, mask=inside, other=255).to(tl.int32)
    pair = tl.where(inside & (truth < CLASSES), truth * CLASSES + found, CLASSES * CLASSES)
    bins = tl.arange(0, BINS)
    pixels = tl.histogram(pair, BINS)
    wanted = (bins < CLASSES * CLASSES) & (pixels > 0)
    tl.atomic_add(counts + bins, pixels.to(tl.int64), mask=wanted, sem="relaxed")


def confusion(logits: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], label: Tensor) -> Tensor:
    """int64 ``[C, C]``, rows = label, from finite float32 logits ``[C, h, w]``, h and w at least 2.

    Args:
        rows: cell (int64) and weight of the far corner (float32) of every output row; ``columns`` likewise.
        label: uint8 ``[H, W]``; C and more are left out.
    """
    classes, h, w = logits.shape
    assert 2 <= classes <= MOST_CLASSES and h >= 2 and w >= 2 and label.is_contiguous()
    (row, row_weight), (column, weight) = rows, columns
    wide = logits.index_select(2, column) * (1 - weight) + logits.index_select(2, column + 1) * weight
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=logits.device)
    height, width = label.shape
    _count[(triton.cdiv(width, COLUMNS), height)](
        wide,
        logits.argmax(0).to(torch.uint8),
        row,
        row_weight,
        column,
        label,
        counts,
        h,
        w,
        width,
        CLASSES=classes,
        BINS=triton.next_power_of_2(classes * classes + 1),
        COLUMNS=min(COLUMNS, triton.next_power_of_2(width)),
        enable_fp_fusion=False,
    )
    return counts
