"""Networks under DistributedDataParallel: one all-reduce per network and optimiser step, batch-norm buffers averaged
only when read.

What goes wrong otherwise is listed where it is avoided: ``no_sync`` must cover the forward *and* the backward of a
pass; a network that trains must be called through its wrapper, a frozen one through ``inner``; parameters must require
gradients when wrapped.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from esl_dist.distributed import collectives
from esl_dist.distributed.runtime import Runtime


def wrap(network: nn.Module, runtime: Runtime) -> nn.Module:
    """The network under DDP, or itself where it is alone.

    ``broadcast_buffers=False``: each rank keeps the batch-norm statistics of its own batches; ``averaged_buffers``
        merges them.
    """
    if runtime.world == 1:
        return network
    devices = [runtime.device.index] if runtime.device.type == "cuda" else None
    with warnings.catch_warnings():
        # Newer releases call the option forward_sync_buffers; the oldest supported one (2.11) does not know that name.
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = DistributedDataParallel(
            network, device_ids=devices, broadcast_buffers=False, gradient_as_bucket_view=True
        )
    _lay_out_gradients(wrapped, [p for p in getattr(network, "forward_order", network.parameters)() if p.requires_grad])
    return wrapped


def _lay_out_gradients(wrapped: DistributedDataParallel, order: Sequence[nn.Parameter]) -> None:
    """A first backward in which the gradients of ``order`` come last first; then they are None again. Collective.

    DDP puts gradients into one bucket until it has seen a backward, then into several, in the order in which they came.
    From three ranks on the bits of a sum depend on a gradient's place in its bucket, so the first step after a resume
    would not be the step that it repeats.
    """
    network = wrapped.module
    wrapped.module = _Touch(order)
    try:
        wrapped(order[0].new_zeros(())).backward()
    finally:
        wrapped.module = network
    wrapped.zero_grad(set_to_none=True)


class _Touch(nn.Module):
    """A forward that meets each parameter, in their order; it owns none of them."""

    def __init__(self, order: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self._order = tuple(order)

    def forward(self, start: torch.Tensor) -> torch.Tensor:
        for parameter in self._order:
            start = _Met.apply(start, parameter)
        return start


class _Met(torch.autograd.Function):
    """``start`` itself; the parameter's gradient is zero and lies in memory as the parameter does.

    The gradient of an indexed element is contiguous instead, which DDP says of every 1x1 kernel in channels-last order:
    "Grad strides do not match bucket view strides".
    """

    @staticmethod
    def forward(ctx: Any, start: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(parameter)
        return start.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        (parameter,) = ctx.saved_tensors
        return grads[0], torch.zeros_like(parameter)


@torch.no_grad()
def add_gradients(
    network: nn.Module, parameters: Sequence[nn.Parameter], gradients: Sequence[torch.Tensor | None]
) -> None:
    """To each parameter's ``.grad``, as a further backward through ``network`` would, with its all-reduce where
    ``sync_if`` does not hold it back; so the gradients of a pass can be made aside (``torch.autograd.grad``).

    Args:
        parameters: all of ``network`` that train.
        gradients: of each; None where the pass does not reach it.
    """
    if isinstance(network, DistributedDataParallel):
        _backward_of(network, parameters, gradients)
        return
    mine, theirs = [], []
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            continue
        if parameter.grad is None:
            parameter.grad = gradient
        else:
            mine.append(parameter.grad)
            theirs.append(gradient)
    if mine:
        torch._foreach_add_(mine, theirs)


def _backward_of(
    wrapped: DistributedDataParallel, parameters: Sequence[nn.Parameter], gradients: Sequence[torch.Tensor | None]
) -> None:
    """A backward whose gradients are given. DDP sees it as any other: it adds up and reduces, bucket by bucket, in the
    order that its buckets have.
    """
    network = wrapped.module
    wrapped.module = _Carry(parameters, gradients)
    try:
        with torch.enable_grad():
            wrapped(parameters[0].new_zeros(())).backward()
    finally:
        wrapped.module = network


class _Carry(nn.Module):
    """A forward that meets all parameters at once and has their gradients already; it owns none of them."""

    def __init__(self, parameters: Sequence[nn.Parameter], gradients: Sequence[torch.Tensor | None]) -> None:
        super().__init__()
        self._parameters_met, self._gradients = tuple(parameters), tuple(gradients)

    def forward(self, start: torch.Tensor) -> torch.Tensor:
        carried: torch.Tensor = _Carried.apply(start, self._gradients, *self._parameters_met)
        return carried


class _Carried(torch.autograd.Function):
    """``start`` itself; the gradients of the parameters are those given, zero for None (DDP waits for every one)."""

    @staticmethod
    def forward(
        ctx: Any, start: torch.Tensor, gradients: Sequence[torch.Tensor | None], *parameters: torch.Tensor
    ) -> torch.Tensor:
        ctx.gradients, ctx.parameters = gradients, parameters
        return start.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        given = zip(ctx.gradients, ctx.parameters, strict=True)
        return grads[0], None, *(torch.zeros_like(p) if gradient is None else gradient for gradient, p in given)


def inner(network: nn.Module) -> nn.Module:
    """The network inside its wrapper: for frozen use, state dicts and evaluation, never for a forward that trains."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def sync_if(network: nn.Module, last: bool) -> contextlib.AbstractContextManager[object]:
    """The context of one forward *and* backward: gradients are all-reduced in the ``last`` pass of a step only."""
    if last or not isinstance(network, DistributedDataParallel):
        return contextlib.nullcontext()
    return network.no_sync()


def float_buffers(network: nn.Module) -> dict[str, torch.Tensor]:
    """Running means and variances, by state-dict key."""
    return {name: buffer for name, buffer in inner(network).named_buffers() if buffer.is_floating_point()}


@contextlib.contextmanager
def averaged_buffers(network: nn.Module) -> Iterator[None]:
    """Inside: running statistics are the mean over ranks, the same on all. Afterwards: each rank's own again.

    Training goes on with its own statistics, so evaluating or saving more or less often changes no result.
    """
    if collectives.world() == 1:
        yield
        return
    buffers = float_buffers(network)
    own = {name: buffer.clone() for name, buffer in buffers.items()}
    for buffer in buffers.values():
        collectives.all_reduce_(buffer).div_(collectives.world())
    try:
        yield
    finally:
        for name, buffer in buffers.items():
            buffer.copy_(own[name])


def gather_buffers(network: nn.Module) -> dict[str, torch.Tensor]:
    """Every rank's running statistics, ``[world, ...]`` per key: what an exact resume needs beside the average."""
    gathered = {}
    for name, buffer in float_buffers(network).items():
        stacked = torch.zeros((collectives.world(), *buffer.shape), dtype=buffer.dtype, device=buffer.device)
        stacked[collectives.rank()] = buffer
        gathered[name] = collectives.all_reduce_(stacked)
    return gathered


def scatter_buffers(network: nn.Module, gathered: dict[str, torch.Tensor]) -> None:
    """Take this rank's statistics back; with another world size the average, already in the network, stays."""
    for name, buffer in float_buffers(network).items():
        stacked = gathered.get(name)
        if stacked is not None and stacked.shape[0] == collectives.world():
            buffer.copy_(stacked[collectives.rank()])
