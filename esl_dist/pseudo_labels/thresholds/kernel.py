"""The second pass's histogram of one image as a Triton kernel for CUDA: one look at every pixel, and nobody waits.

Counts are integers, so the order of programs cannot matter.
"""

# mypy: disable-error-code="untyped-decorator,no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from esl_dist.pseudo_labels.scores.keys import LOW_BINS

PIXELS = 1024


@triton.jit(do_not_specialize=["pixels"])
def _count(label, key, slot, histogram, pixels, digits, BINS: tl.constexpr, PIXELS: tl.constexpr):
    place = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    inside = place < pixels
    bits = tl.load(key + place, mask=inside, other=0)
    upper = bits >> 16
    known = inside & (upper >= 0) & (upper < digits)  # whatever a score is, nothing beside the tables is touched
    label_of = tl.load(label + place, mask=inside, other=0).to(tl.int32)
    row = tl.load(slot + label_of * digits + upper, mask=known, other=-1).to(tl.int64)
    ones = tl.full((PIXELS,), 1, tl.int64)
    tl.atomic_add(histogram + row * BINS + (bits & (BINS - 1)), ones, mask=row >= 0, sem="relaxed")


def count_low(histogram: Tensor, slot: Tensor, label: Tensor, key: Tensor) -> None:
    """Add the lower digits of the keys of wanted cells.

    Args:
        histogram: int64 ``[slots, LOW_BINS]``.
        slot: int16 ``[C, digits]``, the row of a cell or -1 (``counting.Cells``).
        label: uint8, below C; ``key``: int32, 0 or more; contiguous and of one shape.
    """
    assert label.is_contiguous() and key.is_contiguous() and label.shape == key.shape
    _count[(triton.cdiv(key.numel(), PIXELS),)](
        label,
        key,
        slot,
        histogram,
        key.numel(),
        slot.shape[1],
        BINS=LOW_BINS,
        PIXELS=PIXELS,
        enable_fp_fusion=False,
    )
