"""The process group: are all ranks there, do they add up right, and how fast."""

from __future__ import annotations

import os
import platform
import time

import torch

from esl_dist.config.schema import Config
from esl_dist.diagnostics.check import Check
from esl_dist.diagnostics.storage import network_bytes
from esl_dist.distributed import collectives
from esl_dist.distributed.runtime import Runtime

MIB = 2**20
# Under these a step of the full network waits longer for the sum than it computes (NVLink reaches hundreds, one PCIe
# link tens).
SLOW_GPU_GBS, SLOW_CPU_GBS = 5.0, 0.1


def process_group(config: Config, runtime: Runtime) -> list[Check]:
    """Who takes part; torchrun's ranks must be as many as it promised."""
    hosts = collectives.gather_json(platform.node())
    if runtime.world == 1:
        return [
            Check(
                "process group",
                "ok",
                "one process; start the doctor under torchrun, as the training, to check the machines together",
            )
        ]
    backend = "nccl" if runtime.device.type == "cuda" else "gloo"
    named = ", ".join(f"{host} ({hosts.count(host)})" for host in dict.fromkeys(hosts))
    return [Check("process group", "ok", f"{runtime.world} ranks, {backend}: {named}")]


def all_reduce_sum(config: Config, runtime: Runtime) -> list[Check]:
    """A sum, a maximum and a broadcast whose results are known."""
    n, size = runtime.world, 100_003  # a prime: no alignment hides a lost tail
    ramp = torch.arange(size, dtype=torch.int64, device=runtime.device)
    total = collectives.all_reduce_(ramp * (runtime.rank + 1))
    largest = collectives.all_reduce_((ramp % 7 + runtime.rank).float(), "max")
    sent = collectives.broadcast_((ramp + runtime.rank).clone(), n - 1)
    wrong = [
        name
        for name, found, expected in (
            ("sum", total, ramp * (n * (n + 1) // 2)),
            ("maximum", largest, (ramp % 7 + n - 1).float()),
            ("broadcast", sent, ramp + n - 1),
        )
        if not torch.equal(found, expected)
    ]
    if wrong:
        return [
            Check(
                "all-reduce",
                "broken",
                f"wrong result: {', '.join(wrong)}",
                "a network card, cable or GPU corrupts data: run the doctor on fewer machines to find which",
            )
        ]
    return [Check("all-reduce", "ok", "sum, maximum and broadcast are exact")]


def bandwidth(config: Config, runtime: Runtime) -> list[Check]:
    """Time of a small and of a large all-reduce, and what that means for a step of the configured network."""
    if runtime.world == 1:
        return []
    gpu = runtime.device.type == "cuda"
    size = (256 if gpu else 16) * MIB
    small = _seconds(torch.zeros(1, device=runtime.device), 20, runtime)
    large = _seconds(torch.zeros(size // 4, device=runtime.device), 10 if gpu else 3, runtime)
    rate = 2 * (runtime.world - 1) / runtime.world * size / large / 1e9
    step = network_bytes(config) / size * large
    text = (
        f"{rate:.2f} GB/s per rank, {small * 1e3:.2f} ms for a number; the gradients of this network take"
        f" {step * 1e3:.0f} ms a step"
    )
    if rate < (SLOW_GPU_GBS if gpu else SLOW_CPU_GBS):
        variables = (
            "NCCL_DEBUG=INFO shows the path; NCCL_SOCKET_IFNAME chooses the network"
            if gpu
            else "GLOO_SOCKET_IFNAME chooses the network"
        )
        return [Check("bandwidth", "warning", text, f"slow: {variables}; a larger optim.accumulate sends less often")]
    return [Check("bandwidth", "ok", text)]


def _seconds(tensor: torch.Tensor, times: int, runtime: Runtime) -> float:
    """Mean seconds of an all-reduce after a first one that sets the connections up, the slowest rank's."""
    collectives.all_reduce_(tensor)
    _wait(runtime)
    collectives.barrier()
    began = time.perf_counter()
    for _ in range(times):
        collectives.all_reduce_(tensor)
    _wait(runtime)
    mine = torch.tensor((time.perf_counter() - began) / times)
    return float(collectives.all_reduce_(mine, "max"))


def _wait(runtime: Runtime) -> None:
    if runtime.device.type == "cuda":
        torch.cuda.synchronize(runtime.device)


def waiting_hint() -> str:
    """What to look at while a rank waits for the others."""
    place = f"{os.environ.get('MASTER_ADDR', '?')}:{os.environ.get('MASTER_PORT', '?')}"
    return (
        f"still waiting for the other ranks at {place}: have all machines been started, is that port open, is the right"
        " network chosen (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME)?"
    )
