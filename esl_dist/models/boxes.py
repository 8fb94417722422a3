"""Where a network of two resolutions looks closely: a part of an image whose corner the host knows, or only the
device.

What is drawn in training lies on the device, so that a captured step follows it: parts are picked and placed by index
tensors of a fixed size, with the bits of slices.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from esl_dist.models.resize import Size


class Box(NamedTuple):
    """A part of an image, in pixels (or of a map, in cells)."""

    top: int
    left: int
    height: int
    width: int

    def of(self, x: Tensor) -> Tensor:
        """The part of ``[..., H, W]``."""
        return x[..., self.top : self.top + self.height, self.left : self.left + self.width]

    def scaled(self, size: Size, grid: Size) -> Box:
        """The same part of a map of ``grid`` cells over an image of ``size`` pixels; it must begin and end between
        cells.
        """
        cells = [divmod(value * grid[i % 2], size[i % 2]) for i, value in enumerate(self)]
        assert not any(rest for _, rest in cells), f"{self} of {size} does not lie on a grid of {grid}"
        return Box(*(number for number, _ in cells))

    def within(self, x: Tensor) -> Tensor:
        """``[N, K, h, w]`` inside the box, zero outside."""
        return self.placed(self.of(x), (x.shape[2], x.shape[3]))

    def placed(self, part: Tensor, size: Size) -> Tensor:
        """``part`` ``[N, K, height, width]`` at its place in a map of zeros of ``size``."""
        return F.pad(part, (self.left, size[1] - self.left - self.width, self.top, size[0] - self.top - self.height))


class DrawnBox(NamedTuple):
    """A ``Box`` whose corner only the device knows: ``top`` and ``left`` are int64 ``[1]``; its size is fixed."""

    top: Tensor
    left: Tensor
    height: int
    width: int

    def of(self, x: Tensor) -> Tensor:
        """The part of ``[..., H, W]``, new."""
        rows, columns = self._places()
        return x.index_select(-2, rows).index_select(-1, columns)

    def scaled(self, size: Size, grid: Size) -> DrawnBox:
        """As ``Box.scaled``; that the corner lies between cells is for whoever draws it to see to."""
        height, width = (value * n // side for value, n, side in zip(self[2:], grid, size, strict=True))
        assert (height * size[0], width * size[1]) == (self.height * grid[0], self.width * grid[1])
        return DrawnBox(self.top * grid[0] // size[0], self.left * grid[1] // size[1], height, width)

    def within(self, x: Tensor) -> Tensor:
        """``[N, K, h, w]`` inside the box, zero outside."""
        (_, of_rows), (_, of_columns) = self._sources((x.shape[2], x.shape[3]))
        return torch.where(of_rows[:, None] & of_columns, x, 0)

    def placed(self, part: Tensor, size: Size) -> Tensor:
        """``part`` ``[N, K, height, width]`` at its place in a map of zeros of ``size``."""
        (rows, of_rows), (columns, of_columns) = self._sources(size)
        found: Tensor = _Placed.apply(part, (rows, columns), of_rows[:, None] & of_columns, self._places())
        return found

    def _places(self) -> tuple[Tensor, Tensor]:
        """Its rows and its columns."""
        device = self.top.device
        return self.top + torch.arange(self.height, device=device), self.left + torch.arange(self.width, device=device)

    def _sources(self, size: Size) -> list[tuple[Tensor, Tensor]]:
        """For rows and for columns of ``size``: which of the box's they are, where they are any, and whether."""
        found = []
        for corner, side, total in zip(self[:2], self[2:], size, strict=True):
            own = torch.arange(total, device=corner.device) - corner
            found.append((own.clamp(0, side - 1), (own >= 0) & (own < side)))
        return found


class _Placed(Function):
    """A gather in both directions: no address is added to twice, so the bits are the same on any device."""

    @staticmethod
    def forward(
        ctx: Any, part: Tensor, sources: tuple[Tensor, Tensor], inside: Tensor, places: tuple[Tensor, Tensor]
    ) -> Tensor:
        ctx.save_for_backward(*places)
        spread = part.index_select(2, sources[0]).index_select(3, sources[1])
        return torch.where(inside, spread, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        rows, columns = ctx.saved_tensors
        return grad.index_select(2, rows).index_select(3, columns), None, None, None
