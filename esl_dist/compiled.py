"""Loops that numba compiles, where numba can be used. A module that holds some is loaded through here, by its name."""

from __future__ import annotations

import importlib
import logging
import platform
from functools import lru_cache
from pathlib import Path
from types import ModuleType

log = logging.getLogger(__name__)


@lru_cache
def loops(module: str, cost: str) -> ModuleType | None:
    """The module, or None where numba cannot be used, said once with what that costs ("scores take five
    times longer").
    """
    try:
        _whole_vectors()
        return importlib.import_module(module)
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "numba":
            raise
        log.info("numba is not installed, so %s on CPU (pip install 'esl_dist[fast]')", cost)
    except RuntimeError as error:  # no folder for its cache that can be written to
        log.warning("numba cannot be used here (%s), so %s on CPU; set NUMBA_CACHE_DIR", error, cost)
    return None


def _whole_vectors() -> None:
    """Let numba's compiler use all of AVX-512 on CPUs for which LLVM prefers half of it (Intel's servers).

    LLVM spares them the clock that the first of them lost with wide vectors; today's lose none worth mentioning. Loops
    compiled before in this process, and ``NUMBA_CPU_FEATURES`` in the environment, stay as they are.
    """
    from numba import config

    from llvmlite import binding  # isort: skip  (comes with numba, whose absence is the one to be named)

    if getattr(config, "CPU_FEATURES", None) is None:
        features = binding.get_host_cpu_features()
        if features.get("avx512f"):
            config.CPU_FEATURES = f"{features.flatten()},-prefer-256-bit"  # type: ignore[attr-defined]


def cpu_model() -> str:
    """The CPU's name as its maker gives it, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
