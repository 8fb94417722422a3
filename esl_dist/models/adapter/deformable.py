"""Multi-scale deformable attention (Zhu et al., "Deformable DETR", ICLR 2021): every query reads a few points of every
map, where it looks for itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Grid = tuple[int, int]


class DeformableAttention(nn.Module):
    """Tokens that look at ``points`` places on each of ``levels`` maps.

    Args:
        ratio: width of the values, as a share of ``dim``.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int = 4, ratio: float = 0.5) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, int(dim * ratio))
        self.output_proj = nn.Linear(int(dim * ratio), dim)

    def forward(self, queries: Tensor, places: Tensor, maps: Tensor, grids: Sequence[Grid]) -> Tensor:
        """Queries ``[N, Q, C]`` at ``places`` ``[Q, 2]`` (x, y in 0-1), reading the tokens ``[N, sum h w, C]`` of the
        maps of ``grids``.
        """
        values = self.value_proj(maps).unflatten(2, (self.heads, -1))
        offsets = _wide(self.sampling_offsets(queries)).unflatten(2, (self.heads, self.levels, self.points, 2))
        weights = (
            self.attention_weights(queries).unflatten(2, (self.heads, self.levels * self.points)).float().softmax(-1)
        )
        sampled, start = [], 0
        for level, (h, w) in enumerate(grids):
            part = values[:, start : start + h * w].permute(0, 2, 3, 1).flatten(0, 1).unflatten(2, (h, w))
            x, y = offsets[:, :, :, level].unbind(-1)
            where = places[:, None, None] + torch.stack([x / w, y / h], dim=-1)  # no numbers copied to the device
            sampled.append(sample(part, where.transpose(1, 2).flatten(0, 1)))
            start += h * w
        assert start == maps.shape[1], f"{maps.shape[1]} tokens for maps of {grids}"
        read = torch.cat(sampled, dim=-1) * weights.transpose(1, 2).flatten(0, 1)[:, None]
        mixed = read.sum(-1).unflatten(0, (-1, self.heads)).flatten(1, 2).transpose(1, 2)
        out: Tensor = self.output_proj(mixed.to(queries.dtype))
        return out

    def draw(self, generator: torch.Generator) -> None:
        """Each head looks in a direction of its own, its points one to ``points`` cells away; all weigh alike."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angles = torch.arange(self.heads) * (2 * math.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = directions[:, None, None] * torch.arange(1, self.points + 1)[:, None]
        self.sampling_offsets.bias.copy_(steps.expand(-1, self.levels, -1, -1).flatten())
        for layer in (self.attention_weights, self.value_proj, self.output_proj):
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.attention_weights.weight)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight, generator=generator)


def sample(maps: Tensor, where: Tensor) -> Tensor:
    """Bilinear values, float32 or better, of ``[B, D, h, w]`` at ``[B, Q, P, 2]``: ``[B, D, Q, P]``.

    Points are (x, y), 0-1 over the map; outside of it there is zero.
    """
    maps, where = _wide(maps), _wide(where)
    if maps.is_cuda and torch.are_deterministic_algorithms_enabled():
        return gathered(maps, where)  # the gradient of grid_sample is added in no fixed order on CUDA
    with torch.autocast(maps.device.type, enabled=False):
        return F.grid_sample(maps, 2 * where - 1, mode="bilinear", padding_mode="zeros", align_corners=False)


def gathered(maps: Tensor, where: Tensor) -> Tensor:
    """``sample`` by indexing, whose gradient torch can add in a fixed order: slower, and four times the memory."""
    batch, _, h, w = maps.shape
    rows = maps.flatten(2).transpose(1, 2).flatten(0, 1)
    x, y = where[..., 0] * w - 0.5, where[..., 1] * h - 0.5
    left, top = x.floor(), y.floor()
    first = torch.arange(batch, device=maps.device).view(-1, 1, 1) * (h * w)
    total = maps.new_zeros(())
    for down in (0, 1):
        for across in (0, 1):
            column, row = left + across, top + down
            share = (
                (1 - (x - column).abs())
                * (1 - (y - row).abs())
                * ((column >= 0) & (column < w) & (row >= 0) & (row < h))
            )
            index = first + row.clamp(0, h - 1).long() * w + column.clamp(0, w - 1).long()
            total = total + rows[index] * share[..., None]
    return total.permute(0, 3, 1, 2)


def _wide(x: Tensor) -> Tensor:
    """As float32, or itself where it is float64."""
    return x if x.dtype == torch.float64 else x.float()


def centres(grids: Sequence[Grid], device: torch.device) -> Tensor:
    """(x, y) in 0-1 of the cells of every grid, by rows: ``[sum h w, 2]``, float32."""
    points = []
    for h, w in grids:
        y, x = torch.meshgrid(
            (torch.arange(h, device=device) + 0.5) / h, (torch.arange(w, device=device) + 0.5) / w, indexing="ij"
        )
        points.append(torch.stack([x.flatten(), y.flatten()], dim=-1))
    return torch.cat(points)
