"""Arithmetic of one pass over a network: precision, determinism and threads, set where the network runs and put back
after.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import torch

HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
Switches = tuple[bool, bool, bool, bool, bool]
"""TF32 of matrix products and of convolutions, cuDNN's benchmark and determinism, torch's deterministic algorithms."""
TF32_CAPABILITY = (8, 0)
"""Compute capability of the first GPUs that have it (Ampere)."""


@dataclass(frozen=True)
class Arithmetic:
    """Training, extraction and evaluation have one each; none sees another's.

    A pass runs inside ``applied()``; in it, a forward inside ``autocast()``, while losses and scores stay outside.
    """

    device: torch.device
    precision: str = "fp32"
    """Resolved: fp32, tf32, bf16 or fp16."""
    deterministic: bool = True
    threads: int = 0
    """CPU threads; 0 leaves their number alone. The bits of a convolution depend on it."""

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Inside: torch's switches as this pass wants them, for forward and backward. They come back afterwards."""
        before, threads = _switches(), torch.get_num_threads()
        if before == self._wanted() and self.threads in (0, threads):  # inside a pass of its own kind: setting costs
            yield
            return
        _set(*self._wanted())
        if self.threads:
            torch.set_num_threads(self.threads)
        try:
            yield
        finally:
            _set(*before)
            if self.threads:
                torch.set_num_threads(threads)

    def _wanted(self) -> Switches:
        return _combination(self.deterministic, self.precision)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The autocast region of a forward, or nothing in fp32 and tf32."""
        dtype = HALVES.get(self.precision)
        return torch.autocast(self.device.type, dtype) if dtype else contextlib.nullcontext()


def resolve(asked: str, device: torch.device, key: str, auto: str = "") -> str:
    """The precision that ``asked`` means on ``device``.

    Args:
        key: the option, for the message.
        auto: what ``auto`` means; empty is bf16 where CUDA has it, else fp32. ``fastest`` is the device's own.

    Raises:
        ValueError: the device has no such arithmetic, so the value would do nothing.
    """
    cuda = device.type == "cuda"
    if asked == "auto":
        return auto or ("bf16" if cuda and torch.cuda.is_bf16_supported() else "fp32")
    if asked == "fastest":
        return _fastest(device)
    if asked == "tf32" and not cuda:
        raise ValueError(f"{key}: tf32 exists on CUDA only; set {key}=fp32 or bf16")
    if asked == "tf32" and torch.cuda.get_device_capability(device) < TF32_CAPABILITY:
        raise ValueError(f"{key}: {torch.cuda.get_device_name(device)} has no tf32; set {key}=fp32 or fp16")
    if asked == "bf16" and cuda and not torch.cuda.is_bf16_supported():
        raise ValueError(f"{key}: this GPU has no bf16; set {key}=fp16 or fp32")
    return asked


def _fastest(device: torch.device) -> str:
    if device.type != "cuda":
        return "fp32"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "tf32" if torch.cuda.get_device_capability(device) >= TF32_CAPABILITY else "fp32"


def prepare(deterministic: bool) -> None:
    """Once per process: what cannot be switched around a pass, and exact float32 for whatever runs outside one."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    set_arithmetic(deterministic, "fp32")
    # Filling every new tensor with NaN guards against reading uninitialised memory, which nothing here does; it costs
    # 4 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def set_arithmetic(deterministic: bool, precision: str) -> None:
    """For the whole process, for what is timed outside any pass."""
    _set(*_combination(deterministic, precision))


def _combination(deterministic: bool, precision: str) -> Switches:
    return precision == "tf32", precision == "tf32", not deterministic, deterministic, deterministic


def _switches() -> Switches:
    cudnn = torch.backends.cudnn
    return (
        torch.backends.cuda.matmul.allow_tf32,
        cudnn.allow_tf32,
        cudnn.benchmark,
        cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
    )


def _set(matmul_tf32: bool, cudnn_tf32: bool, benchmark: bool, cudnn_deterministic: bool, deterministic: bool) -> None:
    cudnn = torch.backends.cudnn
    torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32 = matmul_tf32, cudnn_tf32
    cudnn.benchmark, cudnn.deterministic = benchmark, cudnn_deterministic
    # warn_only: bilinear upsampling has no deterministic CUDA backward in every release; the fault suite measures what
    # it costs.
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
