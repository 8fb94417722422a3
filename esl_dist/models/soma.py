"""SoMA (Yun et al., "SoMA: Singular Value Decomposed Minor Components Adaptation", CVPR 2025): a frozen transformer
that learns in its least used directions.

Each adapted matrix W is split by its singular values: the ``rank`` smallest triplets are trained as a product B A, the
rest is frozen. The function is unchanged at the start, and after training W + BA is one matrix again (``merge``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esl_dist.models.dinov2 import DinoV2
from esl_dist.models.initial import truncated
from esl_dist.models.vit import Attention, Block, Mlp

RANK = 16
FIRST_BLOCK = 8
Network = TypeVar("Network", bound=nn.Module)


class LowRank(nn.Module):
    """``y = x R' + x A' B' + bias`` with R frozen: a linear layer whose ``rank`` smallest singular triplets learn.

    Args:
        parts: matrices that the layer holds one below the other (3 for q, k and v), each split by itself.
    """

    def __init__(self, inputs: int, outputs: int, rank: int, parts: int = 1, bias: bool = True) -> None:
        super().__init__()
        if not 0 < rank <= min(inputs, outputs // parts):
            raise ValueError(f"LowRank: rank {rank} of a matrix of {outputs // parts}x{inputs}")
        self.parts, self.rank = parts, rank
        self.residual = nn.Parameter(torch.zeros(outputs, inputs), requires_grad=False)
        self.a = nn.Parameter(torch.zeros(parts, rank, inputs))
        self.b = nn.Parameter(torch.zeros(parts, outputs // parts, rank))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    @classmethod
    def split(cls, layer: nn.Linear, rank: int, parts: int = 1) -> LowRank:
        """``layer`` as a frozen and a trainable part; on the meta device their shapes alone."""
        weight = layer.weight
        with torch.device(weight.device):
            made = cls(layer.in_features, layer.out_features, rank, parts, layer.bias is not None).to(weight.dtype)
        if not weight.is_meta:
            made.take(weight)
            if made.bias is not None:
                made.bias.data.copy_(layer.bias.data)
        return made

    @torch.no_grad()
    def take(self, weight: Tensor) -> None:
        """Become ``weight`` ``[out, in]``: B = U S^1/2 and A = S^1/2 V' of its smallest triplets, R = weight - BA."""
        for value, own in zip(
            split_matrix(weight, self.rank, self.parts), (self.residual, self.a, self.b), strict=True
        ):
            own.copy_(value)

    def draw(self, generator: torch.Generator) -> None:
        """As a linear layer is drawn, then split."""
        weight = torch.empty_like(self.residual)
        truncated(weight, 0.02, generator)
        self.take(weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        low = F.linear(x, self.a.flatten(0, 1)).unflatten(-1, (self.parts, self.rank))
        return F.linear(x, self.residual, self.bias) + torch.einsum("...pr,por->...po", low, self.b).flatten(-2)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The same function as one layer, trainable again."""
        outputs, inputs = self.residual.shape
        layer = (
            nn.Linear(inputs, outputs, self.bias is not None, device="meta")
            .to_empty(device=self.residual.device)
            .to(self.residual.dtype)
        )
        layer.weight.copy_(self.residual.double() + (self.b.double() @ self.a.double()).flatten(0, 1))
        if self.bias is not None:
            layer.bias.copy_(self.bias)
        return layer

    def extra_repr(self) -> str:
        return f"{self.residual.shape[1]}, {self.residual.shape[0]}, rank={self.rank}, parts={self.parts}"


def adapt(vit: DinoV2, rank: int = RANK, first_block: int = FIRST_BLOCK) -> DinoV2:
    """Freeze ``vit``, then split q, k, v, proj, fc1 and fc2 of its blocks from ``first_block`` on, in place: A, B and
    these layers' biases train.

    Raises:
        ValueError: no such block, or gated MLPs (of the giant), whose layers the publication does not name.
    """
    if not 0 <= first_block < len(vit.blocks):
        raise ValueError(f"model.dinov2.soma_first={first_block}: the network has blocks 0 to {len(vit.blocks) - 1}")
    vit.requires_grad_(False)
    for module in vit.blocks[first_block:]:
        assert isinstance(module, Block)
        attention, mlp = module.attn, module.mlp
        if not isinstance(mlp, Mlp):
            raise ValueError(
                "model.dinov2.soma_rank: SoMA is not defined for gated MLPs; choose a smaller transformer than giant"
            )
        assert isinstance(attention, Attention)
        for owner, name, parts in ((attention, "qkv", 3), (attention, "proj", 1), (mlp, "fc1", 1), (mlp, "fc2", 1)):
            setattr(owner, name, LowRank.split(getattr(owner, name), rank, parts))
    return vit


def split_matrix(weight: Tensor, rank: int, parts: int) -> tuple[Tensor, Tensor, Tensor]:
    """(R, A, B) of ``weight`` ``[out, in]`` in its own type, by float64 on the CPU, so alike everywhere."""
    wide = weight.detach().double().cpu()
    u, s, vh = torch.linalg.svd(wide.unflatten(0, (parts, -1)), full_matrices=False)
    root = s[:, -rank:].sqrt()
    b, a = ((u[:, :, -rank:] * root[:, None]).to(weight.dtype), (root[:, :, None] * vh[:, -rank:]).to(weight.dtype))
    return (wide - (b.double() @ a.double()).flatten(0, 1)).to(weight.dtype), a, b


def take_plain(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Replace the plain matrices among ``tensors``, a state of ``network`` before it was adapted, by what its low-rank
    layers hold.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, LowRank) and (weight := tensors.pop(f"{name}.weight", None)) is not None:
            if weight.shape != layer.residual.shape:
                raise ValueError(f"{name} has shape {tuple(weight.shape)}, the network {tuple(layer.residual.shape)}")
            for part, value in zip(("residual", "a", "b"), split_matrix(weight, layer.rank, layer.parts), strict=True):
                tensors[f"{name}.{part}"] = value


def merge(network: Network) -> Network:
    """Every low-rank layer of ``network`` as one plain layer again, in place: for export, at no cost in inference."""
    for owner, name, layer in list(_layers(network)):
        setattr(owner, name, layer.merged())
    return network


def _layers(network: nn.Module) -> Iterator[tuple[nn.Module, str, LowRank]]:
    for owner in network.modules():
        for name, child in owner.named_children():
            if isinstance(child, LowRank):
                yield owner, name, child
