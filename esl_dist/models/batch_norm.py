"""Batch norm with what follows it in a residual network, ``relu(norm(x) + shortcut)``: in torch's operations, or in
kernels that need half the passes.

The kernels (``run.kernels``, see ``esl_dist.kernels.norm``) know batch norm in train mode, over the ranks too, and with
frozen statistics, channels last, in 32 and 16 bits. Anything else is torch's.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import Function, once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from esl_dist import kernels


@runtime_checkable
class OverRanks(Protocol):
    """What a batch norm over the batch of all ranks brings, beside being one: their number and two collectives."""

    @property
    def world(self) -> int: ...

    def gather(self, tensor: Tensor) -> Tensor:
        """Every rank's, ``[world, ...]``, in rank order."""

    def add_up(self, tensor: Tensor) -> Tensor:
        """The sum over the ranks, in place."""


def norm_relu(norm: nn.Module, x: Tensor) -> Tensor:
    """``relu(norm(x))`` of ``[N, C, H, W]``."""
    if _fused(norm, x):
        return _apply(norm, x, None, True)[0]
    return F.relu(norm(x), inplace=True)


def norm_add_relu(norm: nn.Module, x: Tensor, shortcut: Tensor) -> tuple[Tensor, Tensor]:
    """``relu(norm(x) + shortcut)``, twice: for the branch that goes on from it and for the next shortcut.

    The two are one tensor. Told apart, the gradients of both users are added where they are read, not in a pass of its
    own.
    """
    if _fused(norm, x) and shortcut.dtype == x.dtype:
        return _apply(norm, x, shortcut, True)
    out = F.relu(norm(x) + shortcut, inplace=True)
    return out, out


def plain_norm(norm: nn.Module, x: Tensor) -> Tensor:
    """``norm(x)``."""
    if _fused(norm, x):
        return _apply(norm, x, None, False)[0]
    out: Tensor = norm(x)
    return out


def _fused(norm: nn.Module, x: Tensor) -> bool:
    """Whether the kernels know this layer and this activation, and are to be used."""
    return (
        kernels.active("norm", x)
        and (type(norm) is nn.BatchNorm2d or isinstance(norm, OverRanks))
        and isinstance(norm, _BatchNorm)
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        # torch says what is wrong with a single value a channel; frozen statistics come with a frozen gain
        and (x.numel() > x.shape[1] if norm.training else not (norm.weight.requires_grad or norm.bias.requires_grad))
        and not torch.compiler.is_compiling()
    )


def _apply(norm: nn.Module, x: Tensor, shortcut: Tensor | None, relu: bool) -> tuple[Tensor, Tensor]:
    assert isinstance(norm, _BatchNorm)
    for before in norm._forward_pre_hooks.values():  # as torch's call of the module would
        before(norm, (x,))
    found: tuple[Tensor, Tensor] = _Normalise.apply(
        _last(x), None if shortcut is None else _last(shortcut), norm.weight, norm.bias, norm, relu
    )
    for after in norm._forward_hooks.values():
        after(norm, (x,), found[0])
    return found


def _last(x: Tensor) -> Tensor:
    """The activation as the kernels take it; a copy only where it lies otherwise."""
    return x if x.permute(0, 2, 3, 1).is_contiguous() else x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


class _Normalise(Function):
    """Two outputs that share their memory; a user that gives no gradient costs nothing."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, shortcut: Tensor | None, gain: Tensor, shift: Tensor, norm: _BatchNorm, relu: bool
    ) -> tuple[Tensor, Tensor]:
        from esl_dist.kernels import norm as kernel

        ctx.set_materialize_grads(False)
        assert (
            norm.running_mean is not None
            and norm.running_var is not None
            and norm.num_batches_tracked is not None
            and norm.momentum is not None
        )
        ctx.batch, ctx.relu, ctx.residual = norm.training, relu, shortcut is not None
        running = kernel.Running(norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum)
        ctx.ranks = norm if isinstance(norm, OverRanks) and norm.training and norm.world > 1 else None
        rows = None
        if ctx.ranks:
            statistics, rows = kernel.statistics_of_all(x, norm.eps, running, ctx.ranks.gather)
        elif norm.training:
            statistics = kernel.statistics(x, norm.eps, running)
        else:
            statistics = kernel.Statistics(norm.running_mean, torch.rsqrt(norm.running_var + norm.eps))
        y = kernel.normalise(x, statistics, gain, shift, shortcut, relu)
        ctx.save_for_backward(x, y if ctx.residual else None, *statistics, gain, shift, rows)
        return y, y.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor | None, other: Tensor | None) -> tuple[Tensor | None, ...]:
        from esl_dist.kernels import norm as kernel

        if dy is None:
            dy, other = other, None
        if dy is None:
            return (None,) * 6
        x, y, mean, inverse, gain, shift, rows = ctx.saved_tensors

        def mean_of_all(sums: Tensor) -> Tensor:
            return ctx.ranks.add_up(sums.clone()) / rows  # type: ignore[no-any-return]

        grads = _last(dy.to(x.dtype)), None if other is None else _last(other.to(x.dtype))
        found = kernel.gradients(
            grads,
            x,
            y,
            kernel.Statistics(mean, inverse),
            (gain, shift),
            ctx.relu,
            ctx.batch,
            mean_of_all if ctx.ranks else None,
        )
        return found.x, found.shortcut, found.gain, found.shift, None, None
