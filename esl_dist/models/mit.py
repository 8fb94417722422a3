"""Mix Transformer encoders B0 to B5 (Xie et al., "SegFormer", NeurIPS 2021), with the published key names: four maps at
strides 4, 8, 16 and 32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from esl_dist.models.attention import attention
from esl_dist.models.stochastic import DropPath, scaled

HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)
STRIDES = (4, 2, 2, 2)
EXPANSION = 4
EPSILON = 1e-6
"""Of norms in blocks and at stage ends; those of patch embeddings and of reduced keys have torch's 1e-5."""


@dataclass(frozen=True)
class Shape:
    """Channels and blocks of the four stages."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


SHAPES: Mapping[str, Shape] = {
    "b0": Shape((32, 64, 160, 256), (2, 2, 2, 2)),
    "b1": Shape((64, 128, 320, 512), (2, 2, 2, 2)),
    "b2": Shape((64, 128, 320, 512), (3, 4, 6, 3)),
    "b3": Shape((64, 128, 320, 512), (3, 4, 18, 3)),
    "b4": Shape((64, 128, 320, 512), (3, 8, 27, 3)),
    "b5": Shape((64, 128, 320, 512), (3, 6, 40, 3)),
}
TINY = Shape((8, 16, 20, 32), (1, 2, 1, 1))
"""For tests; not published."""


class MixTransformer(nn.Module):
    """Images ``[N, 3, H, W]`` to four maps ``[N, C_i, h_i, w_i]``; every stage is padded, so any size will do.

    Args:
        drop_path: stochastic depth of the last block; it rises linearly from 0 at the first.
        checkpointing: forget the activations inside a block and compute them again in the backward.
    """

    def __init__(self, shape: Shape, drop_path: float = 0.1, checkpointing: bool = False) -> None:
        super().__init__()
        if any(c % heads for c, heads in zip(shape.channels, HEADS, strict=True)):
            raise ValueError(f"MixTransformer: channels {shape.channels} do not divide into {HEADS} heads")
        self.shape, self.checkpointing = shape, checkpointing
        rates = iter([drop_path * i / max(sum(shape.depths) - 1, 1) for i in range(sum(shape.depths))])
        before = 3
        for i, (channels, depth) in enumerate(zip(shape.channels, shape.depths, strict=True)):
            setattr(self, f"patch_embed{i + 1}", PatchEmbedding(before, channels, STRIDES[i]))
            setattr(
                self,
                f"block{i + 1}",
                nn.ModuleList(Block(channels, HEADS[i], REDUCTIONS[i], next(rates)) for _ in range(depth)),
            )
            setattr(self, f"norm{i + 1}", nn.LayerNorm(channels, eps=EPSILON))
            before = channels

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x, maps = images, []
        for embed, blocks, norm in self.stages():
            x, (h, w) = embed(x)
            for block in blocks:
                x = self._block(block, x, h, w)
            x = norm(x).transpose(1, 2).unflatten(2, (h, w)).contiguous()
            maps.append(x)
        first, second, third, fourth = maps
        return first, second, third, fourth

    def stages(self) -> Iterator[tuple[PatchEmbedding, nn.ModuleList, nn.LayerNorm]]:
        """(patch embedding, blocks, norm) of each stage."""
        for i in range(1, 5):
            yield getattr(self, f"patch_embed{i}"), getattr(self, f"block{i}"), getattr(self, f"norm{i}")

    def forward_order(self) -> Iterator[nn.Parameter]:
        """The parameters as the forward comes to them."""
        for modules in self.stages():
            for module in modules:
                yield from module.parameters()

    def _block(self, block: nn.Module, x: Tensor, h: int, w: int) -> Tensor:
        assert isinstance(block, Block)
        factors = block.drop_path1.factor(x), block.drop_path2.factor(x)  # not inside: a backward must not draw
        if self.checkpointing and torch.is_grad_enabled():
            again: Tensor = checkpoint(block, x, h, w, *factors, use_reentrant=False, preserve_rng_state=False)
            return again
        out: Tensor = block(x, h, w, *factors)
        return out


class PatchEmbedding(nn.Module):
    """An overlapping convolution (7x7 by 4 at the first stage, 3x3 by 2 at the others) and a norm over channels."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        kernel = 2 * stride - 1
        self.proj = nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """``[N, C, H, W]`` to tokens ``[N, h * w, C']`` and ``(h, w)``."""
        x = self.proj(x)
        return self.norm(x.flatten(2).transpose(1, 2)), (x.shape[2], x.shape[3])


class Block(nn.Module):
    """Attention on reduced keys and an MLP that mixes neighbours, each after its norm."""

    def __init__(self, channels: int, heads: int, reduction: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=EPSILON)
        self.attn = Attention(channels, heads, reduction)
        self.norm2 = nn.LayerNorm(channels, eps=EPSILON)
        self.mlp = MixMlp(channels)
        self.drop_path1, self.drop_path2 = DropPath(drop_path), DropPath(drop_path)

    def forward(self, x: Tensor, h: int, w: int, first: Tensor | None = None, second: Tensor | None = None) -> Tensor:
        """Tokens ``[N, h * w, C]``; ``first`` and ``second``: factors of the two branches by stochastic depth."""
        x = x + scaled(self.attn(self.norm1(x), h, w), first)
        return x + scaled(self.mlp(self.norm2(x), h, w), second)


class Attention(nn.Module):
    """Self-attention whose keys and values come from a map ``reduction`` times smaller on each axis."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads, self.reduction = heads, reduction
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(channels, 2 * channels)
        self.proj = nn.Linear(channels, channels)
        if reduction > 1:
            self.sr = nn.Conv2d(channels, channels, reduction, stride=reduction)
            self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        q = self.q(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        if self.reduction > 1:
            x = self.norm(self.sr(x.transpose(1, 2).unflatten(2, (h, w))).flatten(2).transpose(1, 2))
        k, v = self.kv(x).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out: Tensor = self.proj(attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class MixMlp(nn.Module):
    """Linear to four times the width, a 3x3 depthwise convolution (which knows borders, and so positions), GELU, linear
    back.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, EXPANSION * channels)
        self.dwconv = Depthwise(EXPANSION * channels)
        self.fc2 = nn.Linear(EXPANSION * channels, channels)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.dwconv(self.fc1(x), h, w)))
        return out


class Depthwise(nn.Module):
    """A 3x3 depthwise convolution of tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor, h: int, w: int) -> Tensor:
        return torch.as_tensor(self.dwconv(x.transpose(1, 2).unflatten(2, (h, w)))).flatten(2).transpose(1, 2)
