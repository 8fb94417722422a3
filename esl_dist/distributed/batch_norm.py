"""Batch norm over the batch of all ranks, on any backend: torch's own synchronised form needs CUDA.

A layer costs one collective forward and one backward. Means and squared deviations of the ranks are combined in rank
order (Chan, Golub and LeVeque, 1983), so every rank has the same bits.
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from esl_dist.distributed import collectives

Network = TypeVar("Network", bound=nn.Module)


class _Ranks:
    """What the fused kernels ask of a batch norm over all ranks (``models.batch_norm.OverRanks``)."""

    @property
    def world(self) -> int:
        return collectives.world()

    def gather(self, tensor: Tensor) -> Tensor:
        return collectives.all_gather(tensor)

    def add_up(self, tensor: Tensor) -> Tensor:
        return collectives.all_reduce_(tensor)


class CudaBatchNorm(_Ranks, nn.SyncBatchNorm):
    """Torch's own over all ranks, for the kernels to take its place where they are in use."""


class GlobalBatchNorm(_Ranks, nn.BatchNorm2d):
    """``nn.BatchNorm2d`` whose batch, while it trains, is that of all ranks; ranks may have different counts."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or collectives.world() == 1:
            return super().forward(x)
        normed, mean, variance, count = _Normalise.apply(x, self.eps)
        self._remember(mean, variance * count / (count - 1))
        if self.weight is None:
            return cast(Tensor, normed)
        return cast(Tensor, normed * self.weight[:, None, None] + self.bias[:, None, None])

    @torch.no_grad()
    def _remember(self, mean: Tensor, unbiased: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) with the statistics of all ranks, which it also returns, without gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wide = x if x.dtype == torch.float64 else x.float()
        own_variance, own_mean = torch.var_mean(wide, dim=(0, 2, 3), correction=0)
        count = own_mean.new_tensor([x.numel() // x.shape[1]])
        gathered = collectives.all_gather(torch.cat([count, own_mean, own_variance * count]))
        counts, means, squares = gathered[:, :1], gathered[:, 1 : 1 + x.shape[1]], gathered[:, 1 + x.shape[1] :]
        total = counts.sum(0)
        mean = (means * counts).sum(0) / total
        variance = (squares.sum(0) + (counts * (means - mean).square()).sum(0)) / total
        inverse = (variance + eps).rsqrt()
        normed = (wide - mean[:, None, None]) * inverse[:, None, None]
        ctx.save_for_backward(normed, inverse, total)
        ctx.mark_non_differentiable(mean, variance, total)
        return normed.to(x.dtype), mean, variance, total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        normed, inverse, total = ctx.saved_tensors
        gradient = gradients[0].to(normed.dtype)
        sums = torch.cat([gradient.sum((0, 2, 3)), (gradient * normed).sum((0, 2, 3))])
        shift, slope = (collectives.all_reduce_(sums) / total).chunk(2)
        inner = gradient - shift[:, None, None] - normed * slope[:, None, None]
        return (inner * inverse[:, None, None]).to(gradients[0].dtype), None


def synchronise(network: Network, cuda: bool) -> Network:
    """``network`` with its batch norm over all ranks: torch's on CUDA, this module's elsewhere. Keys stay the same."""
    if cuda:
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        for module in converted.modules():
            if type(module) is nn.SyncBatchNorm:
                module.__class__ = CudaBatchNorm  # the same entries and options
        return cast(Network, converted)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            assert type(module) is nn.BatchNorm2d or isinstance(module, GlobalBatchNorm), type(module)
            module.__class__ = GlobalBatchNorm  # the same entries and options, another forward
    return network
