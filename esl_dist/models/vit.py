"""Parts of a vision transformer (Dosovitskiy et al., ICLR 2021) as DINOv2 has them, under its key names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esl_dist.models.attention import attention
from esl_dist.models.initial import torchs_own
from esl_dist.models.stochastic import DropPath, scaled

PATCH = 14
EPSILON = 1e-6


@dataclass(frozen=True)
class Shape:
    """Size of a transformer."""

    dim: int
    depth: int
    heads: int
    gated: bool = False
    """The MLP is SwiGLU (Shazeer, 2020) with a hidden layer two thirds as wide, rounded up to 8."""


class PatchEmbedding(nn.Module):
    """A patch's pixels to a token."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, PATCH, stride=PATCH)

    def forward(self, images: Tensor) -> Tensor:
        return torch.as_tensor(self.proj(images)).flatten(2).transpose(1, 2)

    def draw(self, generator: torch.Generator) -> None:
        torchs_own(self.proj, generator)


class Block(nn.Module):
    """Attention and MLP, each after its norm, scaled per channel and added."""

    def __init__(self, shape: Shape, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(shape.dim, eps=EPSILON)
        self.attn = Attention(shape.dim, shape.heads)
        self.ls1 = LayerScale(shape.dim)
        self.norm2 = nn.LayerNorm(shape.dim, eps=EPSILON)
        self.mlp = Gated(shape.dim) if shape.gated else Mlp(shape.dim)
        self.ls2 = LayerScale(shape.dim)
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)

    def forward(self, x: Tensor, first: Tensor | None = None, second: Tensor | None = None) -> Tensor:
        """``[N, T, C]``; ``first`` and ``second``: factors of the two branches by stochastic depth."""
        x = x + scaled(self.ls1(self.attn(self.norm1(x))), first)
        return x + scaled(self.ls2(self.mlp(self.norm2(x))), second)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = attention(q, k, v).transpose(1, 2).flatten(2)
        out: Tensor = self.proj(mixed)
        return out


class Mlp(nn.Module):
    """Linear to four times the width, GELU, linear back."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class Gated(nn.Module):
    """SwiGLU: ``w3(silu(a) * b)`` with a and b the halves of ``w12(x)``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        hidden = -(-(4 * dim * 2 // 3) // 8) * 8
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(F.silu(gate) * value)
        return out


class LayerScale(nn.Module):
    """A gain per channel, 1 at the start."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma

    def draw(self, generator: torch.Generator) -> None:
        nn.init.ones_(self.gamma)
