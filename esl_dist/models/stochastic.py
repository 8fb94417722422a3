"""Dropout and stochastic depth that are functions of a key per image, so that a resumed run and another number of ranks
draw the same.

A step says what its images' keys are (``drawing``), or that a pass draws nothing although it trains (``still``: a
teacher's, whose batch norm goes on as in training). Without either, modules draw from torch's generator as torch's own
do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

import torch
from torch import Tensor, nn

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_FIRST = 0xBF58476D1CE4E5B9 - (1 << 64)
_SECOND = 0x94D049BB133111EB - (1 << 64)


class Draws(NamedTuple):
    """What the next forward draws from."""

    keys: Tensor | None
    """int64 ``[N]``, one per image; None: nothing is drawn."""
    common: Tensor
    """int64 ``[1]``: what a batch has in common, where the keys lie."""


_CURRENT: ContextVar[Draws | None] = ContextVar("draws", default=None)


def current() -> Draws | None:
    """What this forward draws from; None where nobody said: torch's generator."""
    return _CURRENT.get()


@contextlib.contextmanager
def drawing(keys: Tensor, common: Tensor | None = None) -> Iterator[None]:
    """Inside, a network's draws are functions of ``keys`` (int64 ``[N]``, on the images' device) and ``common`` (int64
    ``[1]``, the same on all ranks; None: zero).
    """
    assert keys.dtype == torch.int64 and keys.dim() == 1, f"keys: int64 [N], not {keys.dtype} {tuple(keys.shape)}"
    token = _CURRENT.set(Draws(keys, keys.new_zeros(1) if common is None else common))
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextlib.contextmanager
def still() -> Iterator[None]:
    """Inside, networks draw nothing, as at inference; batch norm is left as it is."""
    token = _CURRENT.set(Draws(None, torch.zeros(1, dtype=torch.int64)))
    try:
        yield
    finally:
        _CURRENT.reset(token)


@contextlib.contextmanager
def another_pass(number: int) -> Iterator[None]:
    """Inside, the same keys draw other numbers: for a network that passes an image more than once in one forward."""
    draws = _CURRENT.get()
    if draws is None or draws.keys is None:
        yield
        return
    with drawing(_mix(draws.keys + number * _GOLDEN), draws.common):
        yield


def draws_nothing(module: nn.Module) -> bool:
    """Whether ``module`` must not draw now: it is in eval mode, or a ``still`` pass."""
    draws = _CURRENT.get()
    return not module.training or (draws is not None and draws.keys is None)


def uniform(keys: Tensor, place: int, count: int) -> Tensor:
    """float64 ``[N, count]`` in [0, 1): draws of the module at ``place`` for each image.

    SplitMix64 (Steele, Lea, Flood 2014), 53 bits, on any device.
    """
    stream = _mix(keys ^ _wrapped((place + 1) * _GOLDEN))
    numbers = _mix(stream[:, None] + torch.arange(count, device=keys.device) * _GOLDEN)
    return ((numbers >> 11) & ((1 << 53) - 1)).double() / (1 << 53)


def number_places(network: nn.Module) -> bool:
    """Give every drawing module of ``network`` its own place, in the order of its modules; whether any will draw."""
    found = [module for module in network.modules() if isinstance(module, Drawing)]
    for place, module in enumerate(found):
        module.place = place
    return any(module.rate > 0 for module in found)


class Drawing(nn.Module):
    """What draws with a ``rate``, at a ``place`` of its own in a network."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"a drop rate must be in [0, 1), not {rate}")
        self.rate, self.place = rate, 0

    def kept(self, like: Tensor, count: int) -> Tensor | None:
        """``[N, count]``: 0 or 1/(1 - rate), in ``like``'s type; None where nothing is dropped."""
        if self.rate == 0 or draws_nothing(self):
            return None
        draws = _CURRENT.get()
        if draws is None or draws.keys is None:
            numbers = torch.rand(like.shape[0], count, device=like.device)
        else:
            assert len(draws.keys) == len(like), f"{len(draws.keys)} keys for {len(like)} images"
            numbers = uniform(draws.keys, self.place, count)
        return (numbers >= self.rate).to(like.dtype) / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class DropPath(Drawing):
    """Stochastic depth (Huang et al., 2016): an image's residual branch is dropped with probability ``rate``, else
    divided by ``1 - rate``.
    """

    def factor(self, x: Tensor) -> Tensor | None:
        """What the branch of ``x`` ``[N, ...]`` is multiplied by, ``[N, 1, ...]``; None: by one.

        Taken before a checkpointed block, not inside it.
        """
        kept = self.kept(x, 1)
        return None if kept is None else kept.view(-1, *(1,) * (x.dim() - 1))


class ChannelDropout(Drawing):
    """Dropout of whole channels of ``[N, C, H, W]``, as ``nn.Dropout2d``."""

    def forward(self, x: Tensor) -> Tensor:
        kept = self.kept(x, x.shape[1])
        return x if kept is None else x * kept[:, :, None, None]


def scaled(branch: Tensor, factor: Tensor | None) -> Tensor:
    """``branch`` times a ``DropPath.factor``."""
    return branch if factor is None else branch * factor


def _wrapped(number: int) -> int:
    """As a signed 64-bit integer."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64, whose products wrap; shifts are made logical by masks."""
    x = x + _GOLDEN
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _FIRST
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _SECOND
    return x ^ ((x >> 31) & ((1 << 33) - 1))
