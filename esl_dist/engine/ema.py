"""An exponential moving average of a network's weights: the teacher of the next round (Tarvainen and Valpola, "Mean
teachers", NeurIPS 2017).
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from esl_dist.distributed import ddp


class Ema:
    """``teacher <- d * teacher + (1 - d) * student`` after each step taken, over weights and batch-norm statistics.

    At step t (0-based) ``d = min(decay, t / (t + 1))``: the plain mean of the weights so far until ``decay`` forgets
    faster than that, so that a short training does not end near its initial weights. Under data parallelism the weights
    are alike on all ranks; batch-norm statistics are each rank's own, and their mean over ranks commutes with the
    average over steps.
    """

    def __init__(self, student: nn.Module, decay: float) -> None:
        assert 0 < decay < 1
        self.student = ddp.inner(student)
        self.decay = decay
        self.network = copy.deepcopy(self.student).eval().requires_grad_(False)

    def share(self, step: int) -> float:
        """Of the new weights in the average, after optimiser step ``step`` (0-based)."""
        return 1 - min(self.decay, step / (step + 1))

    @torch.no_grad()
    def update_by(self, share: Tensor, refused: Tensor) -> None:
        """As ``update`` with a share that lies on the device (0-dim, 0 for a step that was ``refused``)."""
        for averaged in (_weights, _statistics):
            mine = averaged(self.network)
            moved = list(torch._foreach_sub(averaged(self.student), mine))
            torch._foreach_mul_(moved, share.float())
            if averaged is _statistics and mine:
                # Weights are finite whatever a step was; statistics have seen a batch that was not.
                flat = torch.cat([tensor.flatten() for tensor in moved])
                moved = list(flat.where(~refused, 0.0).split([tensor.numel() for tensor in moved]))
                moved = [new.view_as(old) for new, old in zip(moved, mine, strict=True)]
            torch._foreach_add_(mine, moved)
        for buffer, theirs in zip(self.network.buffers(), self.student.buffers(), strict=True):
            if not buffer.is_floating_point():
                buffer.copy_(torch.where(refused, buffer, theirs))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimiser step ``step`` (0-based)."""
        torch._foreach_lerp_(_averaged(self.network), _averaged(self.student), self.share(step))
        for mine, theirs in zip(self.network.buffers(), self.student.buffers(), strict=True):
            if not mine.is_floating_point():
                mine.copy_(theirs)  # batches seen, a count


def _averaged(network: nn.Module) -> list[Tensor]:
    return [*_weights(network), *_statistics(network)]


def _weights(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in network.parameters() if tensor.is_floating_point()]


def _statistics(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in network.buffers() if tensor.is_floating_point()]
