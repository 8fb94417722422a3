"""The fused normalisation beside torch in float64, on whatever device and however this process runs Triton."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esl_dist import kernels
from esl_dist.models.batch_norm import norm_add_relu, norm_relu, plain_norm

KINDS = ("plain", "relu", "add")
SHAPES = ((2, 70, 9, 15), (1, 16, 21, 33), (1, 3, 1, 2))
"""Channels that fill no tile, several chunks of rows, and the fewest rows that have a variance."""


def layer(channels: int, training: bool, device: str) -> nn.BatchNorm2d:
    stream = torch.Generator().manual_seed(channels)
    norm = nn.BatchNorm2d(channels, device=device)
    with torch.no_grad():
        for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert tensor is not None
            tensor.copy_(torch.rand(channels, generator=stream) + 0.5)
    if not training:
        norm.requires_grad_(False)
    return norm.train(training)


def output(kind: str, norm: nn.BatchNorm2d, x: Tensor, shortcut: Tensor) -> tuple[Tensor, Tensor]:
    if kind == "add":
        return norm_add_relu(norm, x, shortcut)
    out = (plain_norm if kind == "plain" else norm_relu)(norm, x)
    return out, out


def exact(kind: str, norm: nn.BatchNorm2d, x: Tensor, shortcut: Tensor) -> Tensor:
    value: Tensor = norm(x)
    return value if kind == "plain" else F.relu(value + shortcut if kind == "add" else value)


def difference(a: Tensor | None, b: Tensor | None) -> float:
    """Largest, relative to the largest exact value."""
    assert a is not None and b is not None
    return float((a.detach().double() - b.detach()).abs().max() / b.detach().abs().max().clamp_min(1))


def compare(
    kind: str, shape: tuple[int, int, int, int], training: bool, dtype: torch.dtype, device: str = "cpu"
) -> dict[str, float]:
    """Relative differences from float64 of output, gradients and running statistics; ``again``: of a second run from
    the first, 0 if the bits are the same.
    """
    torch.manual_seed(sum(shape))
    made = [torch.randn(shape) for _ in range(4)]
    made[0] = made[0] * 3 + 40  # a mean that a naive sum of squares would drown in
    x, shortcut, first, second = (t.to(device, dtype).contiguous(memory_format=torch.channels_last) for t in made)
    runs = []
    for _ in range(2):
        norm = layer(shape[1], training, device)
        wide = layer(shape[1], training, device).double()
        inputs = [t.clone().requires_grad_() for t in (x, shortcut)]
        with kernels.using({"norm"}, interpreted=device == "cpu"):
            one, two = output(kind, norm, *inputs)
            (torch.autograd.backward([one, two], [first, second]) if kind == "add" else one.backward(first))
        runs.append([one, *(t.grad for t in inputs[: 2 if kind == "add" else 1]), norm.running_mean, norm.running_var])
    exactly = [t.double().requires_grad_() for t in (x, shortcut)]
    value = exact(kind, wide, *exactly)
    value.backward((first.double() + second.double()) if kind == "add" else first.double())
    assert wide.running_mean is not None and wide.running_var is not None and norm.running_mean is not None
    found = {"output": difference(one, value), "dx": difference(inputs[0].grad, exactly[0].grad)}
    if kind == "add":
        found["shortcut"] = difference(inputs[1].grad, exactly[1].grad)
    if training:
        assert norm.weight.grad is not None and wide.weight.grad is not None
        rows = shape[0] * shape[2] * shape[3]
        found |= {
            "gain": difference(norm.weight.grad, wide.weight.grad) / rows,
            "shift": difference(norm.bias.grad, wide.bias.grad) / rows,
        }
    found |= {
        "running mean": difference(norm.running_mean, wide.running_mean),
        "running variance": difference(norm.running_var, wide.running_var),
    }
    batches = norm.num_batches_tracked, wide.num_batches_tracked
    found["batches"] = abs(int(batches[0] or 0) - int(batches[1] or 0))
    found["again"] = max(difference(a, b.double()) for a, b in zip(*runs, strict=True))
    return found


def cases(device: str = "cpu") -> dict[str, dict[str, float]]:
    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    found = {}
    for kind, shape, training, name in itertools.product(KINDS, SHAPES, (True, False), types):
        if name == "bf16" and shape is not SHAPES[1]:
            continue
        found[f"{kind} {shape} {'train' if training else 'frozen'} {name}"] = compare(
            kind, shape, training, types[name], device
        )
    return found
