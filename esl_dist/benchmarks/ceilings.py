"""What the machine itself can do at most: rate of matrix products, of copies and of all-reduces."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist

from esl_dist.distributed import collectives
from esl_dist.distributed.arithmetic import set_arithmetic
from esl_dist.distributed.runtime import Runtime

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def seconds(work: Callable[[], object], device: torch.device, repeats: int = 7) -> float:
    """Median wall time of ``work`` on the device, after one call that warms up."""
    taken = []
    for _ in range(repeats + 1):
        wait(device)
        began = time.perf_counter()
        work()
        wait(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(precision: str, device: torch.device) -> float:
    """FLOP per second of a square matrix product in this precision."""
    set_arithmetic(False, precision)
    n = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(n, n, device=device).to(DTYPES[precision]) for _ in range(2))
    return 2 * n**3 / seconds(lambda: a @ b, device)


def copy_rate(device: torch.device) -> float:
    """Bytes read and written per second by a copy within the device's memory."""
    source = torch.zeros(1 << (30 if device.type == "cuda" else 26), dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2 * source.numel() * source.element_size() / seconds(lambda: target.copy_(source), device)


def bus_rate(numbers: int, device: torch.device) -> float:
    """Bytes per second that an all-reduce of so many float32 moves over each rank's link, ``2 (N - 1) / N * size /
    time``; the slowest rank's.
    """
    world = collectives.world()
    data = torch.zeros(numbers, device=device)
    took = torch.tensor(seconds(lambda: dist.all_reduce(data), device), dtype=torch.float64)
    return 2 * (world - 1) / world * 4 * numbers / float(collectives.all_reduce_(took, "max"))


def allreduce(runtime: Runtime, mib: Sequence[float] = (0.01, 0.1, 1, 4, 16, 64, 170)) -> dict[str, Any]:
    """Bus bandwidth by size on the process group that is up; 170 MiB is one gradient of ResNet-101.

    Raises:
        ValueError: there is one rank only.
    """
    if runtime.world == 1:
        raise ValueError("bench: allreduce needs ranks: torchrun --nproc_per_node=N -m esl_dist.bench --what allreduce")
    rates = {size: bus_rate(int(size * (1 << 18)), runtime.device) / 1e9 for size in mib}
    return {
        "ranks": runtime.world,
        "backend": dist.get_backend(),
        "device": device_name(runtime.device),
        "bus_gb_s": {f"{size:g}": rate for size, rate in rates.items()},
    }


def allreduce_table(figures: dict[str, Any]) -> str:
    rows = [f"{size:>8} MiB {rate:>10.2f} GB/s" for size, rate in figures["bus_gb_s"].items()]
    return "\n".join(
        [
            (
                f"all-reduce of float32 over {figures['ranks']} ranks, {figures['backend']}, {figures['device']}: bus"
                " bandwidth"
            ),
            *rows,
        ]
    )


def device_name(device: torch.device) -> str:
    return (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} thread(s) a rank, {torch.backends.cpu.get_cpu_capability()}"
    )
