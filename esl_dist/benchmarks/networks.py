"""Time and memory of a training step of the transformer networks, with activations kept and computed again.

On a GPU at the published sizes in bf16, on a CPU small and in float32. A step is forward and backward of two passes,
source and target, as a supervised loss on each; no optimiser, no data.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esl_dist.benchmarks.common import Peak, apart
from esl_dist.config.load import load_config
from esl_dist.labels import protocol
from esl_dist.models import build_segmenter

EXPERIMENTS = (("vfm_uda_b", ()), ("vfm_uda_b", ("decoder=pyramid",)), ("daformer", ()), ("mic", ()))
"""Shipped for GTA5 to Cityscapes: whose networks, with these options, are measured on crops of their size."""
CPU_SIDE = 256
IMAGES = {"cuda": 2, "cpu": 1}
"""Of each domain."""


def run(steps: int = 3) -> dict[str, Any]:
    """Each network in a process of its own: median milliseconds of a step after one to warm up, and its peak MiB above
    the network's own on a CPU, of all on a GPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cases = []
    for which in EXPERIMENTS:
        for again in (False, True):
            cases.append(apart(measure, *which, again, steps))
            print(f"{cases[-1]['network']}, again={again}: {cases[-1]['ms']:.0f} ms", flush=True)  # may be cut short
    return {"device": device, "images": IMAGES[device], "steps": steps, "cases": cases}


def measure(name: str, options: tuple[str, ...], again: bool, steps: int) -> dict[str, Any]:
    """One network's step on the best device of this machine."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    file = f"gta5_cityscapes/{name}.yaml"
    options = (*options, f"checkpointing={str(again).lower()}")
    config = load_config(file, [f"model.{load_config(file).model.name}.{option}" for option in options])
    classes = protocol(config.data.classes).num_classes
    network = build_segmenter(config.model, classes, 1, config.data).to(device).train()
    side = config.teacher.crop.size[0] if device.type == "cuda" else CPU_SIDE
    peak = Peak()
    taken = [_step(network, classes, side, device) for _ in range(1 + steps)][1:]
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
        upsampled = F.interpolate(logits.float(), (side, side), mode="bilinear", align_corners=False)
        F.cross_entropy(upsampled, labels).backward()
    _wait(device)
    return clock() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
