"""A graph made of Python, and a mode in which what a CUDA graph could not hold is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from esl_dist.distributed import capture


class Replayed:
    """A graph that calls its work again; like CUDA's it runs nothing when captured and writes its results to the same
    memory every time.

    ``shape`` is what a step returns: names and empty tensors.
    """

    def __init__(self, shape: capture.Outcome) -> None:
        self.captures, self.replays, self.shape = 0, 0, shape

    def capture(self, work: Callable[[], capture.Outcome]) -> tuple[Callable[[], None], capture.Outcome]:
        self.captures += 1
        outcome = {name: torch.empty_like(value) for name, value in self.shape.items()}

        def replay() -> None:
            self.replays += 1
            with Capturable():
                found = work()
            assert found.keys() == outcome.keys()
            for name, value in found.items():
                outcome[name].copy_(value)

        return replay, outcome


class Capturable(TorchDispatchMode):
    """Inside, an operation whose result's size or whose host value depends on numbers of a device is an error."""

    FORBIDDEN = frozenset(
        ["_local_scalar_dense", "nonzero", "masked_select", "bincount", "unique_dim", "_unique2", "unique_consecutive"]
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            place is not None and place.dtype == torch.bool for place in args[1]
        )
        if name in self.FORBIDDEN or by_mask:
            raise RuntimeError(f"{name}{' by a mask' if by_mask else ''} makes the host wait")
        return func(*args, **(kwargs or {}))
