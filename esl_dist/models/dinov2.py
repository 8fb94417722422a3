"""DINOv2's vision transformer (Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", TMLR 2024),
with the hub's key names.

Registers: Darcet et al., "Vision Transformers Need Registers", ICLR 2024. Layer scale: Touvron et al., 2021.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from esl_dist.models.initial import normal, truncated
from esl_dist.models.vit import EPSILON, PATCH, Block, PatchEmbedding, Shape

GRID = 37
"""Rows and columns of the stored position embeddings: 518 pixels."""
REGISTERS = 4
OFFSET = 0.1
Positions = Literal["offset", "plain", "antialiased"]


SHAPES: Mapping[str, Shape] = {
    "small": Shape(384, 12, 6),
    "base": Shape(768, 12, 12),
    "large": Shape(1024, 24, 16),
    "giant": Shape(1536, 40, 24, gated=True),
}
TINY = Shape(64, 4, 4)
"""For tests; not published."""


class DinoV2(nn.Module):
    """Tokens of images whose sides are multiples of 14.

    Args:
        registers: register tokens, 0 or (as published) 4.
        positions: how position embeddings are brought to another grid than 37x37. ``offset``: bicubic by the factor (n
            + 0.1) / 37, as the hub's models without registers; ``antialiased``: to the size, as its models with
            registers; ``plain``: to the size, no filter.
        drop_path: stochastic depth of the last block; it rises linearly from 0 at the first.
        checkpointing: forget the activations inside a block and compute them again in the backward.
    """

    def __init__(
        self,
        shape: Shape,
        registers: int = 0,
        positions: Positions | None = None,
        drop_path: float = 0.0,
        checkpointing: bool = False,
        grid: int = GRID,
    ) -> None:
        super().__init__()
        if shape.dim % shape.heads:
            raise ValueError(f"DinoV2: {shape.dim} channels do not divide into {shape.heads} heads")
        self.shape, self.grid, self.checkpointing = shape, grid, checkpointing
        self.positions: Positions = positions or ("antialiased" if registers else "offset")
        self.cls_token = nn.Parameter(torch.zeros(1, 1, shape.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + grid * grid, shape.dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, registers, shape.dim)) if registers else None
        self.mask_token: nn.Parameter | None = nn.Parameter(torch.zeros(1, shape.dim))
        self.patch_embed = PatchEmbedding(shape.dim)
        self.blocks = nn.ModuleList(Block(shape, drop_path * i / max(shape.depth - 1, 1)) for i in range(shape.depth))
        self.norm = nn.LayerNorm(shape.dim, eps=EPSILON)

    def forward(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Images ``[N, 3, H, W]`` to the normed tokens ``[N, 1 + registers + rows * columns, C]``: class, registers,
        patches by rows.

        Args:
            mask: bool ``[N, rows, columns]``: patches that the mask token replaces before positions are added.
        """
        x = self.embedded(images, mask)
        for i in range(self.shape.depth):
            x = self.block(i, x)
        normed: Tensor = self.norm(x)
        return normed

    def embedded(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """The first block's input."""
        rows, columns = patch_grid(images)
        x = self.patch_embed(images)
        if mask is None and self.training and self.mask_token is not None:
            mask = images.new_zeros(
                (len(images), rows, columns), dtype=torch.bool
            )  # DDP waits for every parameter, this one's too
        if mask is not None and self.mask_token is not None:
            assert mask.shape == (len(images), rows, columns), f"mask {tuple(mask.shape)} for {rows}x{columns} patches"
            x = torch.where(mask.flatten(1)[:, :, None], self.mask_token.to(x.dtype), x)
        place = self.position_embeddings(rows, columns)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + place
        if self.register_tokens is not None:
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], dim=1)
        return x

    def block(self, index: int, x: Tensor) -> Tensor:
        """Block ``index`` of ``x``."""
        block = self.blocks[index]
        assert isinstance(block, Block)
        factors = block.drop_path1.factor(x), block.drop_path2.factor(x)  # not inside: a backward must not draw
        return self.kept(block, x, *factors)

    def kept(self, module: Callable[..., Tensor] | nn.Module, *inputs: object) -> Tensor:
        """What ``module`` makes of ``inputs``, its activations kept for the backward or, with ``checkpointing``,
        computed again there.
        """
        if self.checkpointing and torch.is_grad_enabled():
            again: Tensor = checkpoint(module, *inputs, use_reentrant=False, preserve_rng_state=False)
            return again
        out: Tensor = module(*inputs)
        return out

    def patches(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """The patch tokens of ``[N, tokens, C]`` as a map ``[N, C, rows, columns]``."""
        rows, columns = grid
        out: Tensor = tokens[:, tokens.shape[1] - rows * columns :].transpose(1, 2).unflatten(2, (rows, columns))
        return out

    def position_embeddings(self, rows: int, columns: int) -> Tensor:
        """``[1, 1 + rows * columns, C]``, float32: the stored grid resized bicubically, the class token's as it is.

        Two matrix products, since the gradient of torch's bicubic resize is added in no fixed order on CUDA.
        """
        embeddings = self.pos_embed.float()
        if (rows, columns) == (self.grid, self.grid):
            return embeddings
        down, across = (bicubic_matrix(self.grid, n, self.positions, embeddings.device) for n in (rows, columns))
        stored = embeddings[0, 1:].unflatten(0, (self.grid, self.grid))
        with torch.autocast(embeddings.device.type, enabled=False):
            resized = torch.einsum("ri,cj,ijd->rcd", down, across, stored)
        return torch.cat([embeddings[:, :1], resized.flatten(0, 1)[None]], dim=1)

    def forward_order(self) -> Iterator[nn.Parameter]:
        """The parameters as the forward comes to them."""
        yield from self.patch_embed.parameters()
        yield from (p for p in (self.mask_token, self.cls_token, self.pos_embed, self.register_tokens) if p is not None)
        yield from self.blocks.parameters()
        yield from self.norm.parameters()

    def draw(self, generator: torch.Generator) -> None:
        """As DINOv2 starts a training: positions N(0, 0.02), tokens next to zero."""
        truncated(self.pos_embed, 0.02, generator)
        for token, spread in ((self.cls_token, 1e-6), (self.register_tokens, 1e-6), (self.mask_token, 0.0)):
            if token is not None:
                normal(token, spread, generator)


def patch_grid(images: Tensor) -> tuple[int, int]:
    """(rows, columns) of patches in ``[N, 3, H, W]``.

    Raises:
        ValueError: a side is no multiple of 14.
    """
    h, w = images.shape[2:]
    if h % PATCH or w % PATCH:
        raise ValueError(f"DinoV2: images of {h}x{w} pixels do not divide into patches of {PATCH}x{PATCH}")
    return h // PATCH, w // PATCH


@functools.cache
def bicubic_matrix(stored: int, wanted: int, positions: Positions, device: torch.device) -> Tensor:
    """``[wanted, stored]``, float32: what torch's bicubic resize multiplies a column of ``stored`` entries by."""
    with torch.inference_mode(False), torch.no_grad():
        # A channel per stored entry. Two columns: torch's antialiased resize of a single one is wrong (2.13, CPU).
        columns = torch.eye(stored, device=device)[None, :, :, None].repeat(1, 1, 1, 2)
        if positions == "offset":
            # The hub's factor is not wanted / stored, and torch samples by the factor that it is given.
            resized = F.interpolate(columns, scale_factor=((wanted + OFFSET) / stored, 1.0), mode="bicubic")
        else:
            antialias = positions == "antialiased"
            resized = F.interpolate(columns, size=(wanted, 2), mode="bicubic", antialias=antialias)
        assert resized.shape[2] == wanted
        return resized[0, :, :, 0].T.contiguous()
