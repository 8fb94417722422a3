"""Kernels of our own on a GPU: checked at the sizes of a training step, and timed beside what they replace."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esl_dist import kernels
from esl_dist.losses import upsampled_information, upsampled_segmentation_loss
from esl_dist.models.batch_norm import norm_add_relu, norm_relu
from esl_dist.models.taps import shifted_sum

STEM, BLOCK, WIDE = (1, 64, 360, 640), (1, 256, 91, 161), (1, 1024, 91, 161)
"""Activations of 1280x720 behind the stem, within layer3 and between its bottlenecks."""


def _activation(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(shape, device=device).to(dtype).contiguous(memory_format=torch.channels_last)


def _norm(channels: int, device: torch.device) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, device=device).train().requires_grad_(False)


def fused_normalisation() -> str:
    """Empty if output and gradients lie within bf16's rounding of float64's and two runs have the same bits."""
    device = torch.device("cuda")
    for shape in (STEM, BLOCK, WIDE, (4, 512, 91, 161)):
        torch.manual_seed(0)
        x, shortcut, grad = (_activation(shape, device) for _ in range(3))
        runs = []
        for _ in range(2):
            norm = _norm(shape[1], device)
            a, b = x.clone().requires_grad_(), shortcut.clone().requires_grad_()
            with kernels.using({"norm"}):
                y, _ = norm_add_relu(norm, a, b)
            y.backward(grad)
            assert a.grad is not None and b.grad is not None and norm.running_mean is not None
            runs.append((y.detach(), a.grad, b.grad, norm.running_mean))
        if not all(torch.equal(p, q) for p, q in zip(*runs, strict=True)):
            return f"{shape}: two runs differ"
        a, b = x.double().requires_grad_(), shortcut.double().requires_grad_()
        exact = F.relu(_norm(shape[1], device).double()(a) + b)
        exact.backward(grad.double())
        for name, mine, theirs in zip(
            ("output", "dx", "shortcut"), runs[0], (exact.detach(), a.grad, b.grad), strict=False
        ):
            assert theirs is not None
            # A value whose exact sign is that of a rounding is cut off on one side only; there are a few in millions.
            off = (mine.double() - theirs).abs() > 2**-7 * (theirs.abs() + 1)
            if float(off.double().mean()) > 1e-4:
                return f"{shape}: {name} is off at {float(off.double().mean()):.1e} of its places"
    return ""


def sum_of_taps() -> str:
    """Empty if the heads' gather gives ``fold``'s sum and gradient."""
    device, classes, h, w = torch.device("cuda"), 19, 91, 161
    torch.manual_seed(0)
    taps = torch.randn(1, 36 * classes, h * w, device=device).to(torch.bfloat16)
    bias, grad = torch.randn(4, classes, device=device), torch.randn(1, classes, h, w, device=device)
    a, b = taps.clone().requires_grad_(), taps.clone().requires_grad_()
    mine, theirs = shifted_sum(a, bias, (h, w), 6), _folded(b, bias, (h, w))
    mine.backward(grad)
    theirs.backward(grad)
    assert a.grad is not None and b.grad is not None
    if not torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5):
        return f"output is off by {float((mine - theirs).abs().max().detach()):.1e}"
    return "" if torch.equal(a.grad, b.grad) else "gradients differ"


def _folded(taps: Tensor, bias: Tensor, size_hw: tuple[int, int]) -> Tensor:
    total = torch.zeros((), device=taps.device)
    for b, part in enumerate(taps.float().chunk(len(bias), 1)):
        reach = 6 * (b + 1)
        total = total + F.fold(part, size_hw, 3, dilation=reach, padding=reach) + bias[b].view(1, -1, 1, 1)
    return total


def losses_at_the_crop() -> str:
    """Empty if the fused cross-entropy and self-information lie within float32's rounding of float64's."""
    for name, work in _losses(torch.device("cuda")):
        runs = []
        for _ in range(2):
            with kernels.using({"losses"}):
                runs.append(work(torch.float32))
        if not all(torch.equal(p, q) for p, q in zip(*runs, strict=True)):
            return f"{name}: two runs differ"
        for mine, theirs in zip(runs[0], work(torch.float64), strict=True):
            apart = float((mine.double() - theirs).abs().max() / theirs.abs().max())
            if apart > 5e-6:
                return f"{name} is off by {apart:.1e}"
    return ""


def _losses(device: torch.device) -> Iterator[tuple[str, Callable[[torch.dtype], tuple[Tensor, Tensor]]]]:
    """Losses at 1280x720 as functions of the type of the logits, each to its value and the gradient of the logits."""
    torch.manual_seed(0)
    logits = 3 * torch.randn(1, 19, 91, 161, device=device)
    labels = torch.randint(0, 20, (1, 720, 1280), device=device).to(torch.uint8)
    grad = torch.randn(1, 19, 720, 1280, device=device).contiguous(memory_format=torch.channels_last)

    def entropy(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        z = logits.to(dtype).requires_grad_()
        value = upsampled_segmentation_loss(z, labels, 1.0)
        return value.detach(), torch.autograd.grad(value, z)[0]

    def information(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        z = logits.to(dtype).requires_grad_()
        value = upsampled_information(z, (720, 1280))
        return value.detach(), torch.autograd.grad(value, z, grad.to(dtype))[0]

    yield "cross-entropy", entropy
    yield "self-information", information


CHECKS: tuple[Callable[[], str], ...] = (fused_normalisation, sum_of_taps, losses_at_the_crop)


def microseconds(work: Callable[[], object], repeats: int = 20) -> float:
    """Median on the device of one call among many."""
    for _ in range(3):
        work()
    taken = []
    for _ in range(repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        taken.append(1e3 * float(begin.elapsed_time(end)))
    return statistics.median(taken)


def _graphed(work: Callable[[], object]) -> Callable[[], object]:
    """``work`` ten times as a graph, so that the host's launches are not what is timed."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=side):
            for _ in range(10):
                work()
    torch.cuda.synchronize()
    return graph.replay


def rates(device: torch.device) -> Iterator[dict[str, Any]]:
    """Forward and backward of a normalisation with residual and ReLU by size, in torch's operations and fused;
    tiles tried.
    """
    from esl_dist.kernels import norm as kernel

    for shape in (STEM, BLOCK, WIDE, (4, 1024, 91, 161)):
        moved = 2.0 * torch.Size(shape).numel()  # bytes of one pass over one tensor
        for name, words in (("torch", set()), ("fused", {"norm"})):
            with kernels.using(words):
                yield _timed(name, shape, device, moved)
    tile = kernel.ROWS, kernel.OPTIONS["num_warps"], kernel.PROGRAMS
    for rows, warps, programs in (
        (32, 4, 1024),
        (16, 4, 2048),
        (32, 4, 2048),
        (32, 8, 1024),
        (64, 8, 1024),
        (64, 4, 2048),
    ):
        kernel.ROWS, kernel.OPTIONS["num_warps"], kernel.PROGRAMS = rows, warps, programs
        with kernels.using({"norm"}):
            for shape in (STEM, WIDE):
                moved = 2.0 * torch.Size(shape).numel()
                yield _timed(f"fused {rows} rows {warps} warps {programs} programs", shape, device, moved)
    kernel.ROWS, kernel.OPTIONS["num_warps"], kernel.PROGRAMS = tile


def loss_rates(device: torch.device) -> Iterator[str]:
    """Lines: losses at 1280x720 with their gradients, and the heads' sum of taps, in torch's operations and fused."""
    for name, work in _losses(device):
        times = []
        for words in (set(), {"losses"}):
            with kernels.using(words):
                times.append(microseconds(_graphed(lambda: work(torch.float32))) / 10)  # noqa: B023
        yield f"{name} 1280x720, forward and backward: torch {times[0]:.0f} us, fused {times[1]:.0f} us"
    taps = torch.randn(1, 684, 91 * 161, device=device).to(torch.bfloat16).requires_grad_()
    bias, grad = torch.randn(4, 19, device=device), torch.randn(1, 19, 91, 161, device=device)

    def both(sum_of: Callable[[], Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(sum_of(), taps, grad)

    folded = microseconds(_graphed(both(lambda: _folded(taps, bias, (91, 161))))) / 10
    gathered = microseconds(_graphed(both(lambda: shifted_sum(taps, bias, (91, 161), 6)))) / 10
    yield f"a head's sum of taps, forward and backward: fold {folded:.0f} us, gather {gathered:.0f} us"


def _timed(name: str, shape: tuple[int, ...], device: torch.device, moved: float) -> dict[str, Any]:
    norm, grad = _norm(shape[1], device), _activation(shape, device)
    x, shortcut = (_activation(shape, device).requires_grad_() for _ in range(2))
    residual = shape is not STEM

    def forward() -> Tensor:
        return norm_add_relu(norm, x, shortcut)[0] if residual else norm_relu(norm, x)

    def both() -> None:
        torch.autograd.grad(forward(), [x, shortcut] if residual else [x], grad)

    with torch.no_grad():
        forward_us = microseconds(_graphed(forward)) / 10
    total_us = microseconds(_graphed(both)) / 10
    return {
        "name": name,
        "shape": list(shape),
        "forward_us": forward_us,
        "backward_us": total_us - forward_us,
        "pass_us_at_4_tb_s": moved / 4e6,
    }


def row(entry: dict[str, Any]) -> str:
    """One line of the table."""
    shape = "x".join(map(str, entry["shape"]))
    times = f"forward {entry['forward_us']:8.1f} us, backward {entry['backward_us']:8.1f} us"
    return f"{entry['name']:<40}{shape:<18}{times}, a pass over it {entry['pass_us_at_4_tb_s']:.1f} us"
