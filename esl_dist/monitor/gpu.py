"""GPU figures from the driver (NVML, package ``nvidia-ml-py``); nothing where there is no driver."""

from __future__ import annotations

import importlib
import logging
import os
import time
from typing import Any

log = logging.getLogger(__name__)

# A query costs milliseconds per GPU, and the figures are averages over about a second.
INTERVAL_S = 10.0
GIB = 2**30

# Reasons for a lowered clock that are a machine's fault, from nvml.h.
THROTTLE = {
    0x8: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}


class Nvml:
    """An open NVML session; ``Nvml.open()`` is None where there is no driver or no package."""

    def __init__(self, library: Any) -> None:
        self._library = library

    @classmethod
    def open(cls) -> Nvml | None:
        try:
            library = importlib.import_module("pynvml")
            library.nvmlInit()
        except Exception as error:  # the package, the driver or the right to ask it is missing: all mean "no figures"
            log.debug("no GPU figures: %s", error)
            return None
        return cls(library)

    def driver(self) -> str:
        return str(self._library.nvmlSystemGetDriverVersion())

    def handles(self) -> list[Any]:
        """Handles of the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves to this process, in its order."""
        library = self._library
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
        names = [name.strip() for name in visible.split(",") if name.strip()]
        return [
            library.nvmlDeviceGetHandleByIndex(int(n)) if n.isdigit() else library.nvmlDeviceGetHandleByUUID(n)
            for n in names
            if n != "-1"
        ]

    def name(self, handle: Any) -> str:
        return str(self._library.nvmlDeviceGetName(handle))

    def figures(self, handle: Any) -> dict[str, float]:
        """Utilisation and memory in percent and GiB, power in W, temperature in degrees C, clock in MHz; what a GPU
        does not tell is left out.
        """
        library = self._library
        memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
        use = self._ask("nvmlDeviceGetUtilizationRates", handle)
        power = self._ask("nvmlDeviceGetPowerUsage", handle)
        degrees = self._ask("nvmlDeviceGetTemperature", handle, library.NVML_TEMPERATURE_GPU)
        clock = self._ask("nvmlDeviceGetClockInfo", handle, library.NVML_CLOCK_SM)
        found: dict[str, float] = {}
        if use is not None:
            found["utilisation"] = float(use.gpu)
        if memory is not None:
            found |= {"memory_gib": round(memory.used / GIB, 3), "memory_total_gib": round(memory.total / GIB, 3)}
        if power is not None:
            found["power_w"] = power / 1000
        if degrees is not None:
            found["temperature_c"] = float(degrees)
        if clock is not None:
            found["clock_mhz"] = float(clock)
        return found

    def faults(self, handle: Any) -> list[str]:
        """What the driver reports as wrong with a GPU: uncorrected memory errors, rows or pages to remap, a slowed
        clock.
        """
        library = self._library
        found = []
        errors = self._ask(
            "nvmlDeviceGetTotalEccErrors", handle, library.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, library.NVML_VOLATILE_ECC
        )
        if errors:
            found.append(f"{errors} uncorrected memory error(s) since the driver started")
        rows = self._ask("nvmlDeviceGetRemappedRows", handle)
        if rows is not None and (rows[2] or rows[3]):
            found.append(
                "a memory row remapping failed" if rows[3] else "a memory row is to be remapped at the next reset"
            )
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", handle) or 0
        found += [text for bit, text in THROTTLE.items() if reasons & bit]
        return found

    def _ask(self, query: str, *arguments: Any) -> Any:
        """The answer, or None: GPUs (virtual ones, MIG slices) and drivers differ in what they tell."""
        try:
            return getattr(self._library, query)(*arguments)
        except Exception:
            return None


class _Sampler:
    """One NVML session per process, opened at the first sample."""

    def __init__(self) -> None:
        self._nvml: Nvml | None = None
        self._opened = False
        self._last = -INTERVAL_S

    def sample(self, interval_s: float) -> dict[str, float] | None:
        if not self._opened:
            self._opened, self._nvml = True, Nvml.open()
        now = time.monotonic()
        if self._nvml is None or now - self._last < interval_s:
            return None
        self._last = now
        try:
            handles = self._nvml.handles()
        except Exception as error:  # a GPU fell off the bus: training will notice by itself
            log.debug("no GPU figures: %s", error)
            return None
        return {
            f"gpu{index}/{key}": value
            for index, handle in enumerate(handles)
            for key, value in self._nvml.figures(handle).items()
        } or None


_sampler = _Sampler()


def sample(interval_s: float = INTERVAL_S) -> dict[str, float] | None:
    """Figures of this machine's GPUs as ``gpu<i>/<figure>``; None without a driver, or within ``interval_s`` of the
    last sample.
    """
    return _sampler.sample(interval_s)
