"""Rates by a clock that the test moves, GPU figures from a driver that the test plays."""

import types
from typing import Any

import pytest

from esl_dist.monitor import gpu
from esl_dist.monitor.gpu import Nvml
from esl_dist.monitor.throughput import Throughput


def test_rates_are_of_the_last_interval() -> None:
    now = [0.0]
    meter = Throughput(images_per_step=4, clock=lambda: now[0])
    for _ in range(10):
        with meter.waiting():
            now[0] += 0.1
        now[0] += 0.3
        meter.step()
    assert meter.read() == {"images_per_second": 10.0, "step_seconds": 0.4, "data_wait": 0.25}
    now[0] += 2
    meter.step()
    assert meter.read() == {"images_per_second": 2.0, "step_seconds": 2.0, "data_wait": 0.0}
    assert meter.total_seconds == pytest.approx(6.0)


def test_waiting_is_counted_when_the_loader_fails() -> None:
    now = [0.0]
    meter = Throughput(1, clock=lambda: now[0])

    def load() -> None:
        now[0] += 1
        raise OSError

    with pytest.raises(OSError), meter.waiting():
        load()
    assert meter.read()["data_wait"] == 1.0


class Driver(types.ModuleType):
    """NVML with two GPUs; what it does not define raises AttributeError, as an old driver's missing function does."""

    NVML_TEMPERATURE_GPU = NVML_CLOCK_SM = NVML_MEMORY_ERROR_TYPE_UNCORRECTED = NVML_VOLATILE_ECC = 0

    def __init__(self) -> None:
        super().__init__("pynvml")
        self.ecc, self.rows, self.reasons = 0, (0, 0, 0, 0), 0

    def nvmlInit(self) -> None: ...
    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.1"

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"index {index}"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return f"uuid {uuid}"

    def nvmlDeviceGetName(self, handle: str) -> str:
        return "GPU"

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return types.SimpleNamespace(used=2**30, total=4 * 2**30)

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        return types.SimpleNamespace(gpu=97)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        raise RuntimeError("Not Supported")

    def nvmlDeviceGetClockInfo(self, handle: str, kind: int) -> int:
        return 1980

    def nvmlDeviceGetTotalEccErrors(self, handle: str, kind: int, span: int) -> int:
        return self.ecc

    def nvmlDeviceGetRemappedRows(self, handle: str) -> tuple[int, int, int, int]:
        return self.rows

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return self.reasons


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setattr(gpu.importlib, "import_module", lambda name: made)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return made


def test_gpu_figures_leave_out_what_a_gpu_does_not_tell(driver: Driver) -> None:
    figures = gpu._Sampler().sample(0)
    assert figures is not None and len(figures) == 8
    assert {k: v for k, v in figures.items() if k.startswith("gpu1/")} == {
        "gpu1/utilisation": 97.0,
        "gpu1/memory_gib": 1.0,
        "gpu1/memory_total_gib": 4.0,
        "gpu1/clock_mhz": 1980.0,
    }


def test_gpu_figures_are_not_asked_too_often(driver: Driver) -> None:
    sampler = gpu._Sampler()
    assert sampler.sample(60) is not None and sampler.sample(60) is None and sampler.sample(0) is not None


def test_only_visible_gpus_in_their_order(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = Nvml.open()
    assert nvml is not None
    assert nvml.handles() == ["index 0", "index 1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,GPU-abc")
    assert nvml.handles() == ["index 1", "uuid GPU-abc"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert nvml.handles() == []


def test_gpu_faults(driver: Driver) -> None:
    nvml = Nvml.open()
    assert nvml is not None and nvml.faults("index 0") == []
    driver.ecc, driver.rows, driver.reasons = 3, (1, 0, 1, 0), 0x40 | 0x1
    assert nvml.faults("index 0") == [
        "3 uncorrected memory error(s) since the driver started",
        "a memory row is to be remapped at the next reset",
        "hardware thermal slowdown",
    ]


def test_no_driver_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(gpu.importlib, "import_module", missing)
    assert Nvml.open() is None and gpu._Sampler().sample(0) is None
