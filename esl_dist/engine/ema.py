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

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimiser step ``step`` (0-based)."""
        decay = min(self.decay, step / (step + 1))
        torch._foreach_lerp_(_averaged(self.network), _averaged(self.student), 1 - decay)
        for mine, theirs in zip(self.network.buffers(), self.student.buffers(), strict=True):
            if not mine.is_floating_point():
                mine.copy_(theirs)  # batches seen, a count


def _averaged(network: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in [*network.parameters(), *network.buffers()] if tensor.is_floating_point()]
