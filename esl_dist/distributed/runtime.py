"""Start and end of a rank: device, threads, determinism, process group, time-outs."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import importlib.util
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from esl_dist import kernels, processes
from esl_dist.config.schema import RunConfig
from esl_dist.distributed import capture, collectives, listening, nccl, rendezvous
from esl_dist.distributed.arithmetic import HALVES, Arithmetic, prepare, resolve
from esl_dist.distributed.stall import GRACE_S, StallWatch

log = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)

# Before the first step a rank may still be reading data or compiling, so its peers wait longer for it.
FIRST_STEP_TIMEOUT_S = 300


@dataclass(frozen=True)
class Runtime:
    """What a rank knows about itself. Make it with ``Runtime.start`` and leave it through ``with``.

    ``precision`` is resolved: never ``auto``.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    device: torch.device
    precision: str
    threads: int
    inference_threads: int
    deterministic: bool
    timeout_s: int
    watch: StallWatch | None = None
    captures: bool = False
    """Whether what is launched over and over may be captured as a CUDA graph (``run.capture``)."""

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @classmethod
    def start(cls, config: RunConfig, records: Path) -> Runtime:
        """Read torchrun's environment, choose device and threads, bring the process group up.

        ``records``: folder of the flight-recorder files that a stall leaves.

        Raises:
            ValueError: CUDA or a precision was asked for that this machine does not have.
        """
        local_rank, local_world = listening.told("LOCAL_RANK", 0), listening.told("LOCAL_WORLD_SIZE", 1)
        world = listening.told("WORLD_SIZE", 1)
        device = _choose_device(config.device, local_rank, local_world)
        if config.compile or config.compile_blocks:
            _check_compiler(device, "run.compile" if config.compile else "run.compile_blocks")
        precision = resolve(config.precision, device, "run.precision")
        threads = config.threads or max(1, processes.cores() // local_world)
        torch.set_num_threads(threads)
        prepare(config.deterministic)
        kernels.choose(kernels.of_steps(config.kernels, captured=False) if device.type == "cuda" else ())
        if device.type == "cpu":
            _keep_freed_memory()
        if world > 1 or "TORCHELASTIC_RUN_ID" in os.environ:
            listening.keep_to_loopback()
            # The group's own time-out is the last resort: the watch names the rank before it strikes.
            timeout = datetime.timedelta(seconds=FIRST_STEP_TIMEOUT_S + GRACE_S)
            store, rank, ranks = rendezvous.join(timeout)
            if device.type == "cuda":
                torch.cuda.set_device(device)
                if config.deterministic:
                    nccl.fix_order()
                dist.init_process_group(
                    "nccl", store=store, rank=rank, world_size=ranks, timeout=timeout, device_id=device
                )
            else:
                dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=timeout)
        return cls(
            rank=collectives.rank(),
            world=collectives.world(),
            local_rank=local_rank,
            local_world=local_world,
            device=device,
            precision=precision,
            threads=threads,
            inference_threads=config.inference_threads,
            deterministic=config.deterministic,
            timeout_s=config.timeout_s,
            watch=StallWatch(records, FIRST_STEP_TIMEOUT_S),
            captures=config.capture != "off" and device.type == "cuda",
        )

    def expect_steps(self) -> None:
        """From a stage's first step on a stalled rank is a fault: bound the wait for it by ``run.timeout_s``."""
        self._limit(self.timeout_s)

    def expect_anything(self) -> None:
        """Between stages ranks read, infer and write for different times: wait as long as at the start."""
        self._limit(max(FIRST_STEP_TIMEOUT_S, self.timeout_s))

    def _limit(self, seconds: int) -> None:
        setter = getattr(dist.distributed_c10d, "_set_pg_timeout", None) if collectives.is_up() else None
        if setter is not None:
            setter(datetime.timedelta(seconds=seconds + GRACE_S), dist.group.WORLD)
        if self.watch is not None:
            self.watch.limit_s = seconds

    @property
    def training(self) -> Arithmetic:
        """Of training steps: ``run.precision``."""
        return Arithmetic(self.device, self.precision, self.deterministic)

    def inference(self, precision: str = "fp32", key: str = "precision") -> Arithmetic:
        """Of extraction, evaluation or prediction, whose bits do not depend on how many ranks share the machine: a
        fixed number of threads. ``auto`` is the training's precision.

        Args:
            key: the option, for the message.

        Raises:
            ValueError: this device has no such arithmetic.
        """
        resolved = resolve(precision, self.device, key, auto=self.precision)
        return Arithmetic(self.device, resolved, self.deterministic, self.inference_threads)

    def fixed_forward(self, precision: str = "fp32") -> contextlib.AbstractContextManager[None]:
        """``inference(precision)``, applied."""
        return self.inference(precision).applied()

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The autocast region of a training forward, or nothing in fp32 and tf32."""
        return self.training.autocast()

    @property
    def dtype(self) -> torch.dtype:
        """What a convolution reads its input in while training."""
        return HALVES.get(self.precision, torch.float32)

    def place(self, network: M) -> M:
        """The network on this rank's device, its convolutions in channels-last order."""
        network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return network

    def close(self) -> None:
        if self.watch is not None:
            self.watch.close()
        capture.release()
        if collectives.is_up():
            dist.destroy_process_group()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is not None and self.world > 1 and not hasattr(error, "every_rank"):
            # Inside the group an error is one rank's own unless the ranks agreed on it, so whoever has it prints it
            # (entries/cli.py).
            error.every_rank = False  # type: ignore[attr-defined]
        self.close()


def _choose_device(asked: str, local_rank: int, local_world: int) -> torch.device:
    available = torch.cuda.is_available()
    if asked == "cuda" and not available:
        raise ValueError(
            "run.device: cuda was asked for, but torch sees no GPU here; set run.device=cpu or run.device=auto"
        )
    if asked == "cpu" or not available:
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if local_world > count:
        raise ValueError(
            f"run.device: {local_world} ranks on this machine but {count} GPU(s); start with --nproc_per_node={count}"
            " or run.device=cpu"
        )
    return torch.device("cuda", local_rank)


def _check_compiler(device: torch.device, option: str) -> None:
    """torch.compile generates C++ on a CPU and Triton on a GPU."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise ValueError(f"{option}: needs the package triton on CUDA; install it, or set {option}=false")
    elif not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")):
        raise ValueError(
            f"{option}: needs a C++ compiler on a CPU (g++ or clang++, or CXX=PATH); install one, or set {option}=false"
        )


def _keep_freed_memory() -> None:
    """Let glibc keep what a step frees for the next one (up to 32 MiB apiece) instead of giving it back and faulting it
    in again, page by page.

    A step of the embedded pair otherwise takes 8,000 page faults, 5 to 15 % of its time. Other C libraries do as they
    like.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_threshold = -1, -3
        mallopt(trim_threshold, 1 << 30)
        mallopt(mmap_threshold, 32 << 20)
