"""Versions, devices and memory of every machine that takes part."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import shutil
from pathlib import Path

import torch

from esl_dist import processes
from esl_dist.config.schema import Config
from esl_dist.diagnostics.check import Check
from esl_dist.distributed import collectives
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine import apex
from esl_dist.monitor.gpu import Nvml

GIB = 2**30
# Lowest versions that the package is made for (pyproject.toml), and the extra that brings each optional one.
CORE = {"torch": "2.11", "numpy": "2.1", "h5py": "3.12", "pillow": "11.3", "pyyaml": "6.0"}
OPTIONAL = {
    "mlflow": "track",
    "nvidia-ml-py": "gpu",
    "matplotlib": "report",
    "numba": "fast",
    "ray": "tune",
    "optuna": "tune",
}
HOT_C = 85
SMALL_SHM_GIB = 1.0


def versions(config: Config, runtime: Runtime) -> list[Check]:
    """Installed versions against the lowest supported, the same on all ranks."""
    have = {name: _version(name) for name in (*CORE, *OPTIONAL)}
    core = {"python": platform.python_version(), **{name: have[name] for name in CORE}}
    everyone = collectives.gather_json(core)
    text = ", ".join(f"{name} {version}" for name, version in core.items())
    different = sorted({name for other in everyone for name in core if other[name] != core[name]})
    old = [
        f"{name} {have[name]} (needs {lowest})"
        for name, lowest in CORE.items()
        if _numbers(have[name]) < _numbers(lowest)
    ]
    if different:
        check = Check(
            "versions",
            "broken",
            f"the ranks differ in {', '.join(different)}",
            "install the same environment on every machine",
        )
    elif old:
        check = Check(
            "versions",
            "warning",
            f"older than tested: {', '.join(old)}",
            "pip install -U " + " ".join(f"'{n}>={v}'" for n, v in CORE.items()),
        )
    else:
        check = Check("versions", "ok", text)
    there = [f"{name} {have[name]}" for name in OPTIONAL if have[name]]
    missing = [f"{name} ({extra})" for name, extra in OPTIONAL.items() if not have[name]]
    extras = "; ".join(filter(None, (", ".join(there), "not installed: " + ", ".join(missing) if missing else "")))
    return [check, Check("extras", "ok", extras)]


def device(config: Config, runtime: Runtime) -> list[Check]:
    """What the ranks compute on, and whether they share it well."""
    cores = processes.cores()
    threads = runtime.threads * runtime.local_world
    if runtime.device.type == "cuda":
        properties = torch.cuda.get_device_properties(runtime.device)
        free, total = torch.cuda.mem_get_info(runtime.device)
        text = (
            f"{properties.name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free, {runtime.precision},"
            f" {runtime.local_world} rank(s) on this machine"
        )
        if free < total / 2:
            return [
                Check(
                    "device",
                    "warning",
                    text,
                    "another process holds more than half of this GPU's memory; see nvidia-smi",
                )
            ]
        return [Check("device", "ok", text)]
    text = f"CPU, {runtime.precision}, {runtime.local_world} rank(s) x {runtime.threads} thread(s) on {cores} core(s)"
    if torch.version.cuda and config.run.device == "auto":
        return [
            Check(
                "device",
                "warning",
                f"{text}; this torch has CUDA {torch.version.cuda} but sees no GPU",
                "check nvidia-smi and CUDA_VISIBLE_DEVICES, or say run.device=cpu",
            )
        ]
    if threads > cores:
        return [
            Check("device", "warning", text, "more threads than cores: start fewer ranks, or set run.threads lower")
        ]
    return [Check("device", "ok", text)]


def gpu_health(config: Config, runtime: Runtime) -> list[Check]:
    """What the driver says about this machine's GPUs (asked once per machine)."""
    if runtime.local_rank != 0:
        return []
    nvml = Nvml.open()
    if nvml is None:
        if runtime.device.type == "cuda":
            return [
                Check(
                    "gpu health", "warning", "no figures: nvidia-ml-py is not installed", "pip install 'esl_dist[gpu]'"
                )
            ]
        return [Check("gpu health", "ok", "no NVIDIA driver here")]
    checks = []
    for index, handle in enumerate(nvml.handles()):
        figures, faults = nvml.figures(handle), nvml.faults(handle)
        text = f"{nvml.name(handle)}, driver {nvml.driver()}: " + ", ".join(
            f"{key} {value:g}" for key, value in figures.items()
        )
        name = f"gpu {index} health"
        if any("memory" in fault for fault in faults):
            checks.append(
                Check(
                    name,
                    "broken",
                    f"{text}: {'; '.join(faults)}",
                    "take this GPU out of service: reset it, or have it replaced",
                )
            )
        elif faults or figures.get("temperature_c", 0) >= HOT_C:
            checks.append(
                Check(
                    name,
                    "warning",
                    f"{text}: {'; '.join(faults) or 'hot'}",
                    "check cooling and power; every rank waits for the slowest GPU",
                )
            )
        else:
            checks.append(Check(name, "ok", text))
    return checks or [Check("gpu health", "ok", "no GPU is visible to this process")]


def optimiser(config: Config, runtime: Runtime) -> list[Check]:
    """Whether apex's optimisers run here, where the configuration asks for them."""
    if config.optim.backend != "apex":
        return []
    problem = apex.unusable(config.run.device)
    return (
        [Check("apex", "broken", problem, "or set optim.backend=auto")]
        if problem
        else [Check("apex", "ok", "FusedSGD took a step on this GPU")]
    )


def shared_memory(config: Config, runtime: Runtime) -> list[Check]:
    """Room for the batches that loader processes hand over (asked once per machine)."""
    if runtime.local_rank != 0:
        return []
    folder = Path("/dev/shm")
    if not folder.is_dir():
        return [Check("shared memory", "warning", "there is no /dev/shm", "set data.workers=0")]
    use = shutil.disk_usage(folder)
    text = f"{use.free / GIB:.1f} of {use.total / GIB:.1f} GiB free in /dev/shm"
    if use.free < SMALL_SHM_GIB * GIB and config.data.workers > 0:
        return [
            Check(
                "shared memory",
                "warning",
                text,
                "start the container with --shm-size=8g (or --ipc=host), or set data.workers=0",
            )
        ]
    return [Check("shared memory", "ok", text)]


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.partition("+")[0])[:3])
