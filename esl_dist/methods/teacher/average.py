"""The teacher: an exponential moving average of the student that labels the target (Tarvainen and Valpola, NeurIPS
2017).

As DACS, DAFormer and their successors run it, which differs from ``engine/ema.py`` in schedule, in what is averaged and
in how the network is run: all three are options here.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from esl_dist.distributed import ddp

Averaged = Literal["parameters", "buffers"]
"""``parameters`` alone, or floating ``buffers`` (batch-norm statistics) too."""
Statistics = Literal["batch", "running"]
"""Batch norm of the teacher: of the batch that it labels, moving running averages of its own; or the
running averages.
"""
When = Literal["before", "after"]
"""The average is updated before a step labels anything (DAFormer), or after its optimiser step (VFM-UDA)."""


def decay_at(step: int, decay: float) -> float:
    """``min(1 - 1/(t+1), decay)``: 0 at t = 0 (a copy), then 1/2, 2/3, … until ``decay`` forgets faster than a plain
    mean.
    """
    return min(1 - 1 / (step + 1), decay)


class Teacher:
    """``phi <- a_t phi + (1 - a_t) theta`` over all parameters, frozen ones included (they are equal anyway).

    It is no part of DDP. The student's parameters have the same bits on every rank and so have the teacher's;
    batch-norm statistics are each rank's own, as the student's are.
    """

    def __init__(
        self, student: nn.Module, decay: float, averaged: Averaged, statistics: Statistics, when: When
    ) -> None:
        assert 0 <= decay < 1
        self.student = ddp.inner(student)
        self.decay, self.averaged, self.statistics, self.when = decay, averaged, statistics, when
        self.network = copy.deepcopy(self.student).requires_grad_(False)

    def start(self) -> None:
        """Before a training's first step: a copy of the student."""
        self.network.load_state_dict(self.student.state_dict())

    def share(self, step: int) -> float:
        """Of the student in the average at the start of optimiser step ``step`` (0-based): all of it in the first.

        ``when="after"`` counts one step later: what it would have done at the end of the step before.
        """
        return 1 - decay_at(step if self.when == "before" else max(step - 1, 0), self.decay)

    @torch.no_grad()
    def update(self, share: Tensor) -> None:
        """At the start of a step, before the teacher is asked anything; ``share`` float64, 0-dim, where the network
        lies.
        """
        mine, theirs = self._tensors(self.network), self._tensors(self.student)
        shares = {dtype: share.to(dtype) for dtype in {tensor.dtype for tensor in mine}}
        torch._foreach_lerp_(mine, theirs, [shares[tensor.dtype] for tensor in mine])
        if self.averaged == "buffers":
            for buffer, students in zip(self.network.buffers(), self.student.buffers(), strict=True):
                if not buffer.is_floating_point():
                    buffer.copy_(students)  # batches seen, a count

    def _tensors(self, network: nn.Module) -> list[Tensor]:
        buffers = network.buffers() if self.averaged == "buffers" else ()
        return [tensor.detach() for tensor in [*network.parameters(), *buffers] if tensor.is_floating_point()]

    @contextlib.contextmanager
    def labelling(self) -> Iterator[nn.Module]:
        """The network as it labels: no dropout, no dropped path, batch norm as ``statistics`` says, no gradient."""
        norms = []
        if self.statistics == "batch":
            self.network.train()  # a network whose statistics are frozen keeps them so
            norms = [module for module in self.network.modules() if isinstance(module, _BatchNorm) and module.training]
        self.network.eval()
        for norm in norms:
            nn.Module.train(norm, True)
        with torch.no_grad():
            yield self.network
