"""Batch norm over two ranks in the kernels: what each rank of ``test_norm_ranks.py`` computes, in the interpreter."""

from __future__ import annotations

import torch
from torch import Tensor

from esl_dist import kernels
from esl_dist.distributed import collectives
from esl_dist.distributed.batch_norm import synchronise
from esl_dist.models.batch_norm import norm_add_relu

SHARES = (3, 1)
"""Images of the two ranks: they need not be equally many."""
CHANNELS, SIZE = 20, (9, 13)


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Activation, shortcut and the gradient of the output, of all ranks."""
    stream = torch.Generator().manual_seed(1)
    x, shortcut, grad = (torch.randn(sum(SHARES), CHANNELS, *SIZE, generator=stream) for _ in range(3))
    return x * 3 + 40, shortcut, grad


def layer() -> torch.nn.BatchNorm2d:
    norm = torch.nn.BatchNorm2d(CHANNELS, momentum=0.2)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, CHANNELS))
        norm.bias.copy_(torch.linspace(-1, 1, CHANNELS))
    return norm.train()


def results(norm: torch.nn.Module, parts: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    x, shortcut, grad = parts
    a, b = x.clone().requires_grad_(), shortcut.clone().requires_grad_()
    out, _ = norm_add_relu(norm, a, b)
    out.backward(grad)
    assert a.grad is not None and b.grad is not None
    found = {"output": out.detach(), "dx": a.grad, "shortcut": b.grad}
    return {**found, "gain": norm.weight.grad, "shift": norm.bias.grad, **dict(norm.named_buffers())}  # type: ignore[dict-item]


def of_rank() -> dict[str, list[float]]:
    """Of this rank's images, gradients of gain and shift added up over the ranks; and how many collectives it took."""
    first = collectives.rank() * SHARES[0]
    parts = tuple(
        t[first : first + SHARES[collectives.rank()]].contiguous(memory_format=torch.channels_last) for t in inputs()
    )
    norm = synchronise(layer(), cuda=False)
    asked: list[str] = []
    for name in ("gather", "add_up"):

        def counting(tensor: Tensor, name: str = name, plain: object = getattr(norm, name)) -> Tensor:
            asked.append(name)
            return plain(tensor)  # type: ignore[operator, no-any-return]

        setattr(norm, name, counting)
    with kernels.using({"norm"}, interpreted=True):
        found = results(norm, parts)  # type: ignore[arg-type]
    for name in ("gain", "shift"):
        collectives.all_reduce_(found[name])
    assert asked == ["gather", "add_up"], asked
    return {name: value.double().flatten().tolist() for name, value in found.items()}
