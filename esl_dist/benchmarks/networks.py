"""Time and memory of a training step of the transformer networks, with activations kept and computed again.

On a GPU at the published sizes in bf16, on a CPU small and in float32. A step is forward and backward of two passes,
source and target, as a supervised loss on each; no optimiser, no data.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn

from esl_dist.benchmarks.common import Peak, apart
from esl_dist.config.load import load_config
from esl_dist.distributed.arithmetic import set_arithmetic
from esl_dist.losses import upsampled_segmentation_loss
from esl_dist.models import Segmenter, build_segmenter, stochastic

EXPERIMENTS = (("vfm_uda_b", ()), ("vfm_uda_b", ("decoder=pyramid",)), ("daformer", ()), ("mic", ()))
"""Shipped for GTA5 to Cityscapes: whose networks, with these options, are measured on crops of their size."""
CPU_SIDE, TINY_SIDE = 256, 128
TINY = "encoder=tiny"
CLASSES = 19
IMAGES = {"cuda": 2, "cpu": 1}
"""Of each domain."""


def run(steps: int = 3, tiny: bool = False) -> dict[str, Any]:
    """Each network in a process of its own: median milliseconds of a step after one to warm up, and its peak MiB above
    the network's own on a CPU, of all on a GPU. ``tiny``: of tiny ones, whether all of it works.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    alike = [apart(repeats, *which) for which in EXPERIMENTS]
    print("the same bits twice: " + ", ".join(f"{one['network']} {one['repeats']}" for one in alike), flush=True)
    cases = []
    for which in EXPERIMENTS:
        for again in (False, True):
            name, options = which
            cases.append(apart(measure, name, (*options, TINY) if tiny else options, again, steps))
            print(f"{cases[-1]['network']}, again={again}: {cases[-1]['ms']:.0f} ms", flush=True)  # may be cut short
    return {"device": device, "images": IMAGES[device], "steps": steps, "cases": cases, "repeats": alike}


def repeats(name: str, options: tuple[str, ...]) -> dict[str, Any]:
    """Whether a tiny one of a network has the same gradients twice, in deterministic mode on the best device."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA begins
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    set_arithmetic(True, "bf16" if device.type == "cuda" else "fp32")
    network, _ = _network(name, (*options, TINY), device)
    found = []
    for _ in range(2):
        with stochastic.drawing(torch.arange(IMAGES[device.type], device=device)):
            _step(network, CLASSES, TINY_SIDE, device)
        found.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    same = all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    return {"network": network.describe(), "repeats": same}


def measure(name: str, options: tuple[str, ...], again: bool, steps: int) -> dict[str, Any]:
    """One network's step on the best device of this machine."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    network, side = _network(name, (*options, f"checkpointing={str(again).lower()}"), device)
    peak = Peak()
    taken = [_step(network, CLASSES, side, device) for _ in range(1 + steps)][1:]
    return {
        "network": network.describe(),
        "again": again,
        "side": side,
        "parameters": sum(p.numel() for p in network.parameters()),
        "ms": 1e3 * statistics.median(taken),
        "mib": torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak.mib(),
    }


def table(figures: dict[str, Any]) -> str:
    """Without, with, and what computing again costs and saves."""
    precision = "bf16" if figures["device"] == "cuda" else "float32, one thread"
    lines = [
        f"forward and backward of {figures['images']} + {figures['images']} images, {precision}, {figures['device']},"
        f" median of {figures['steps']}; activations kept | computed again"
    ]
    for kept, again in zip(figures["cases"][::2], figures["cases"][1::2], strict=True):
        lines.append(
            f"{kept['network']}, {kept['parameters'] / 1e6:6.1f} M, {kept['side']}x{kept['side']}:"
            f" {kept['ms']:8.0f} ms {kept['mib']:7.0f} MiB | {again['ms']:8.0f} ms {again['mib']:7.0f} MiB"
            f" (time x{again['ms'] / kept['ms']:.2f}, memory x{again['mib'] / kept['mib']:.2f})"
        )
    return "\n".join(lines)


def _network(name: str, options: tuple[str, ...], device: torch.device) -> tuple[Segmenter, int]:
    """An experiment's network on the device, and the side of its crops, which a CPU takes small."""
    file = f"gta5_cityscapes/{name}.yaml"
    config = load_config(file, [f"model.{load_config(file).model.name}.{option}" for option in options])
    network = build_segmenter(config.model, CLASSES, 1, config.data).to(device).train()
    small = TINY_SIDE if TINY in options else CPU_SIDE
    return network, config.teacher.crop.size[0] if device.type == "cuda" else small


def _step(network: nn.Module, classes: int, side: int, device: torch.device) -> float:
    """Seconds; on a CPU those of this process, so that others do not count."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    _wait(device)
    began = clock()
    network.zero_grad(set_to_none=True)
    for domain in range(2):
        generator = torch.Generator().manual_seed(domain)
        count = IMAGES[device.type]
        images = torch.randn(count, 3, side, side, generator=generator).to(device)
        labels = torch.randint(0, classes, (count, side, side), generator=generator).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits: Tensor = network(images).main
        upsampled_segmentation_loss(logits, labels, torch.tensor(float(labels.numel()), device=device)).backward()
    _wait(device)
    return clock() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
