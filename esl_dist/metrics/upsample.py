"""The argmax of upsampled logits without the upsampled logits.

Evaluation at a label's own size needs, per image, the winning class of C x 2048 x 1024 bilinear values: 152 MiB in
float32 that are read once and thrown away. Bilinear interpolation is a convex combination of a cell's four corners, so
where one class wins all four it wins the whole cell: only the cells on the border between two classes have to be
interpolated at all. With numba (the extra ``fast``) a compiled loop over the cells gives the same pixels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch

from esl_dist.metrics.confusion import compiled

log = logging.getLogger(__name__)

Argmax = Callable[[torch.Tensor, tuple[int, int]], torch.Tensor]

# Border cells interpolated at once: the working set stays within a few megabytes, near the cache.
CELLS = 512


def upsampled_argmax(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Argmax over classes of logits upsampled with ``mode="bilinear", align_corners=True``, in float32.

    Args:
        logits: float ``[C, h, w]``, C at most 255, any device.
        size: width and height of the result.

    Returns:
        uint8 ``[H, W]`` on the same device; among equal logits the first class wins. A function of this image alone.
    """
    logits = at_least_two(logits.detach().float())
    fast = _compiled() if logits.device.type == "cpu" else None
    return (fast or _eager)(logits, size)


def _eager(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    width, height = size
    classes, h, w = logits.shape
    winner = logits.argmax(0).to(torch.uint8)
    rows, row_weight = positions(h, height, logits.device)
    columns, column_weight = positions(w, width, logits.device)
    top_left = winner[:-1, :-1]
    mixed = (top_left != winner[:-1, 1:]) | (top_left != winner[1:, :-1]) | (top_left != winner[1:, 1:])
    label = top_left[rows][:, columns].contiguous()

    # The pixels of cell (i, j) are a block of rows y[i] .. y[i]+p and columns x[j] .. x[j]+q; p and q vary by one
    # between cells.
    y, y_weight, y_inside = _by_cell(rows, row_weight, h - 1)
    x, x_weight, x_inside = _by_cell(columns, column_weight, w - 1)
    corners = logits.permute(1, 2, 0)
    flat = label.view(-1)
    for cells in mixed.nonzero().split(CELLS):
        i, j = cells.unbind(1)
        wx = x_weight[j].unsqueeze(1)  # [K, 1, q]
        upper = corners[i, j].unsqueeze(2) * (1 - wx) + corners[i, j + 1].unsqueeze(2) * wx  # [K, C, q]
        lower = corners[i + 1, j].unsqueeze(2) * (1 - wx) + corners[i + 1, j + 1].unsqueeze(2) * wx
        block = _first_maximum(upper, lower, y_weight[i].unsqueeze(2), classes)
        place = y[i].unsqueeze(2) * width + x[j].unsqueeze(1)  # [K, p, q]
        inside = y_inside[i].unsqueeze(2) & x_inside[j].unsqueeze(1)
        flat[place[inside]] = block[inside]
    return label


@lru_cache(maxsize=1)
def _compiled() -> Argmax | None:
    """The compiled loop where numba can be used, if it gives the pixels of the plain one on this machine."""
    fast = compiled()
    if fast is None:
        return None

    def argmax(logits: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        largest = float(logits.abs().max())
        if not math.isfinite(largest):
            return _eager(logits, size)  # no margin is safe around a NaN
        width, height = size
        _, h, w = logits.shape
        rows, row_weight = (table.numpy() for table in positions(h, height, logits.device))
        columns, column_weight = (table.numpy() for table in positions(w, width, logits.device))
        label = torch.empty(height, width, dtype=torch.uint8)
        corners, winner = logits.permute(1, 2, 0).contiguous().numpy(), logits.argmax(0).to(torch.uint8).numpy()
        fast.label_cells(
            corners, winner, rows, row_weight, columns, column_weight, fast.MARGIN * np.float32(largest), label.numpy()
        )
        return label

    tile = torch.randn(7, 9, 11, generator=torch.Generator().manual_seed(0))
    tile[:, 4:] = tile[:, 4:].round()  # ties, and cells of one class
    if torch.equal(argmax(tile, (83, 61)), _eager(tile, (83, 61))):
        return argmax
    log.warning(
        "numba does not give torch's pixels on this machine, so scoring runs in torch alone, several times slower"
    )
    return None


def _first_maximum(upper: torch.Tensor, lower: torch.Tensor, wy: torch.Tensor, classes: int) -> torch.Tensor:
    """Interpolate ``[K, C, q]`` pairs of rows to ``[K, p, q]`` one class at a time, keeping the winner."""
    keep = 1 - wy
    best = upper[:, :1] * keep + lower[:, :1] * wy
    label = torch.zeros(best.shape, dtype=torch.uint8, device=best.device)
    for c in range(1, classes):
        value = upper[:, c : c + 1] * keep + lower[:, c : c + 1] * wy
        label.masked_fill_(value > best, c)
        torch.maximum(best, value, out=best)
    return label


def at_least_two(logits: torch.Tensor) -> torch.Tensor:
    """A map one pixel high or wide is constant in that direction: repeat it, so that there is a cell."""
    _, h, w = logits.shape
    return logits.repeat(1, 2 if h == 1 else 1, 2 if w == 1 else 1)


def positions(cells_plus_one: int, length: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Cell index and weight of its far corner for every output row or column; exact rationals, rounded once
    to float32.
    """
    steps = max(length - 1, 1)
    numerator = torch.arange(length, device=device) * (cells_plus_one - 1)
    cell = (numerator // steps).clamp_(max=cells_plus_one - 2)
    weight = (numerator - cell * steps).double() / steps
    return cell, weight.float()


def _by_cell(cell: torch.Tensor, weight: torch.Tensor, cells: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Per cell its pixels' positions, weights and which of them are real: three tensors ``[cells, most pixels in a
    cell]``.
    """
    count = torch.bincount(cell, minlength=cells)
    first = torch.cumsum(count, 0) - count
    offset = torch.arange(int(count.max()), device=cell.device)
    position = (first.unsqueeze(1) + offset).clamp_(max=len(cell) - 1)
    return position, weight[position], offset < count.unsqueeze(1)
