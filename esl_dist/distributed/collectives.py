"""Collectives that mean the same with and without a process group.

Every function here must be called by all ranks or by none. Objects travel as JSON in byte tensors: nothing is ever
unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

T = TypeVar("T")


def is_up() -> bool:
    """Whether a process group with more than the notion of "alone" exists."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    return dist.get_rank() if is_up() else 0


def world() -> int:
    return dist.get_world_size() if is_up() else 1


def is_main() -> bool:
    return rank() == 0


def _wire(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor on the device that the backend can reduce (NCCL knows CUDA tensors only)."""
    if dist.get_backend() == "nccl" and tensor.device.type != "cuda":
        return tensor.to(torch.device("cuda", torch.cuda.current_device()))
    return tensor


def all_reduce_(tensor: torch.Tensor, op: str = "sum") -> torch.Tensor:
    """Reduce ``tensor`` over the ranks in place (``sum``, ``max`` or ``min``) and return it; alone, return it
    untouched.
    """
    if world() == 1:
        return tensor
    ops = {"sum": dist.ReduceOp.SUM, "max": dist.ReduceOp.MAX, "min": dist.ReduceOp.MIN}
    wire = _wire(tensor.contiguous())
    dist.all_reduce(wire, ops[op])
    if wire.data_ptr() != tensor.data_ptr():
        tensor.copy_(wire)
    return tensor


def all_gather(tensor: torch.Tensor) -> torch.Tensor:
    """Every rank's ``tensor`` (of one shape) in rank order, ``[world, ...]``, on every rank. No gradient flows."""
    if world() == 1:
        return tensor[None]
    wire = _wire(tensor.contiguous())
    parts = [torch.empty_like(wire) for _ in range(world())]
    dist.all_gather(parts, wire)
    return torch.stack(parts).to(tensor.device)


def all_max(value: int) -> int:
    """The largest of the ranks' integers."""
    return int(all_reduce_(torch.tensor(value, dtype=torch.int64), "max").item())


def all_sum(value: int) -> int:
    """The sum of the ranks' integers."""
    return int(all_reduce_(torch.tensor(value, dtype=torch.int64)).item())


def barrier() -> None:
    """Wait for every rank (an all-reduce of one number, so that gloo and NCCL behave alike)."""
    all_max(0)


def broadcast_(tensor: torch.Tensor, source: int = 0) -> torch.Tensor:
    """Overwrite ``tensor`` with rank ``source``'s, in place."""
    if world() == 1:
        return tensor
    wire = _wire(tensor.contiguous())
    dist.broadcast(wire, source)
    if wire.data_ptr() != tensor.data_ptr():
        tensor.copy_(wire)
    return tensor


def broadcast_json(value: Any, source: int = 0) -> Any:
    """Rank ``source``'s JSON-serialisable value, on every rank."""
    if world() == 1:
        return value
    data = json.dumps(value).encode() if rank() == source else b""
    size = broadcast_(torch.tensor([len(data)], dtype=torch.int64), source)
    buffer = torch.zeros(int(size.item()), dtype=torch.uint8)
    if rank() == source:
        buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    return json.loads(bytes(broadcast_(buffer, source).tolist()).decode())


def gather_json(value: Any) -> list[Any]:
    """Every rank's JSON-serialisable value, in rank order, on every rank."""
    return [broadcast_json(value, source) for source in range(world())]


def agree(action: Callable[[], T]) -> T:
    """Run ``action`` on every rank; if it fails with ``ValueError`` or ``OSError`` anywhere, fail on all ranks with the
    first such
    message.

    For checks of what all ranks see (folders, lists, checkpoints): no rank goes on into a collective that another never
    joins.
    """
    result: T | None = None
    problem = ""
    try:
        result = action()
    except ValueError as error:
        problem = str(error) or type(error).__name__
    except OSError as error:
        problem = f"{error.filename or 'the system'}: {error.strerror or error}"
    problems = gather_json(problem)
    failed = [(number, text) for number, text in enumerate(problems) if text]
    if failed:
        number, text = failed[0]
        agreed = ValueError(text if len(failed) == world() else f"rank {number}: {text}")
        agreed.every_rank = True  # type: ignore[attr-defined]
        raise agreed
    return cast(T, result)
