"""Kernels of our own in place of chains of torch's on CUDA, and which of them a process uses.

Which, is a switch of the process like torch's own for arithmetic: a network or a loss asks ``active`` where it would
use one. Off, or for what a kernel does not know (another device or type), torch's own operations run, with the bits
they had.
"""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

import torch

NAMES = ("norm", "heads", "losses")
"""norm: batch norm with residual and ReLU; heads: the shifted sum of taps; losses: upsampling, softmax and what follows
it.
"""
TYPES = (torch.float32, torch.bfloat16, torch.float16)

_chosen: frozenset[str] = frozenset()
_interpreted = False


@lru_cache
def available() -> bool:
    """Whether triton, which compiles them, is installed."""
    return importlib.util.find_spec("triton") is not None


def of_steps(words: Sequence[str], captured: bool) -> frozenset[str]:
    """What ``run.kernels`` means for training steps: ``auto`` is all of them where steps are ``captured``."""
    named = frozenset(words) - {"auto"}
    return named | (frozenset(NAMES) if "auto" in words and captured and available() else frozenset())


def choose(names: Iterable[str]) -> None:
    """From here on this process uses these.

    Raises:
        ValueError: there is no triton.
    """
    global _chosen
    wanted = frozenset(names)
    if wanted and not available():
        raise ValueError("run.kernels: needs the package triton; install it, or set run.kernels=[]")
    assert wanted <= set(NAMES)
    _chosen = wanted


@contextlib.contextmanager
def using(names: Iterable[str], interpreted: bool = False) -> Iterator[None]:
    """Inside, these; with ``interpreted`` on a CPU too, where Triton's interpreter runs them
    (``TRITON_INTERPRET=1``).
    """
    global _interpreted
    before = _chosen, _interpreted
    choose(names)
    _interpreted = interpreted
    try:
        yield
    finally:
        choose(before[0])
        _interpreted = before[1]


def chosen() -> frozenset[str]:
    """Those that this process uses."""
    return _chosen


def active(name: str, tensor: torch.Tensor) -> bool:
    """Whether kernel ``name`` is to be used for ``tensor``."""
    return name in _chosen and (tensor.is_cuda or _interpreted) and tensor.dtype in TYPES
