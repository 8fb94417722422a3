"""A frozen network that every rank reads and none changes: once in a machine's memory, not once for each of its ranks.

Devices share nothing, so on GPUs each rank holds its own. On a CPU the first rank of a machine lays the weights into a
memory file without a name (Linux' memfd: no place on a disk, gone with its last user, however that ends), and the
others map it.
"""

from __future__ import annotations

import itertools
import logging
import mmap
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from esl_dist.distributed import collectives
from esl_dist.distributed.runtime import Runtime

log = logging.getLogger(__name__)

ALIGNMENT = 64
"""Bytes; of every tensor's first, as torch's own allocator does it."""


def once_per_machine(network: nn.Module, runtime: Runtime) -> None:
    """Let the ranks of a machine read one copy of a frozen network's weights and buffers, to the bit and stride what
    they were. All ranks call it; one that cannot share keeps its own copy, and the log says why.

    Pages are private: a rank that wrote into them all the same would change its own.

    Raises:
        ValueError: on every rank, that a rank's network is another than its machine's first.
    """
    if runtime.world == 1 or runtime.device.type != "cpu":
        return
    entries = dict(itertools.chain(network.named_parameters(), network.named_buffers()))
    laid, problem = _lay(entries) if runtime.local_rank == 0 else (None, "")
    path = collectives.gather_json(laid.path if laid else "")[runtime.rank - runtime.local_rank]
    problem = collectives.agree(lambda: _map(entries, path) if path else problem)
    problems = [text for text in collectives.gather_json(problem) if text]  # nobody closes before all have mapped
    if laid:
        os.close(laid.file)
    if problems:
        log.info("A frozen network is held by each rank, not once per machine: %s", problems[0])


class _Laid(NamedTuple):
    file: int
    path: str


def _lay(entries: Mapping[str, Tensor]) -> tuple[_Laid | None, str]:
    """What others may map, or why there is nothing."""
    try:
        file = os.memfd_create("frozen")
        os.truncate(file, _places(entries)[-1])
    except (OSError, AttributeError) as error:  # no memory for it; no memfd outside Linux
        return None, str(error)
    with mmap.mmap(file, 0) as memory:
        for entry, view in zip(entries.values(), _views(entries, memory), strict=True):
            view.copy_(entry.detach())
        del view  # mmap refuses to close under a tensor that still points into it
    return _Laid(file, f"/proc/{os.getpid()}/fd/{file}"), ""


def _map(entries: Mapping[str, Tensor], path: str) -> str:
    """Point each tensor into the file; why not, where that cannot be.

    Raises:
        ValueError: this rank's network is another than the file's.
    """
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError as error:  # ranks in containers of their own see no other's processes
        return str(error)
    try:
        memory = mmap.mmap(file, 0, access=mmap.ACCESS_COPY)
    finally:
        os.close(file)
    for (name, entry), view in zip(entries.items(), _views(entries, memory), strict=True):
        if not torch.equal(_bits(entry.detach()), _bits(view)):
            raise ValueError(f"{name} of the frozen network is another on this rank than on the first of its machine")
        entry.data = view
    return ""


def _places(entries: Mapping[str, Tensor]) -> Sequence[int]:
    """First byte of each tensor, and the size of all."""
    sizes = (-(-entry.nbytes // ALIGNMENT) * ALIGNMENT for entry in entries.values())
    return list(itertools.accumulate(sizes, initial=0))


def _views(entries: Mapping[str, Tensor], memory: mmap.mmap) -> Sequence[Tensor]:
    """Of each tensor's shape and strides, at its place."""
    flat = torch.frombuffer(memory, dtype=torch.uint8)
    return [
        flat[first : first + entry.nbytes].view(entry.dtype).as_strided(entry.shape, entry.stride())
        for entry, first in zip(entries.values(), _places(entries)[:-1], strict=True)
    ]


def _bits(tensor: Tensor) -> Tensor:
    """Comparable where a weight is NaN, too."""
    return tensor.contiguous().flatten().view(torch.uint8)
