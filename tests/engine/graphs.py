"""A graph made of Python, and a mode in which what a CUDA graph could not hold is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
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
    """Inside, an operation whose result's size or whose host value depends on numbers of a device is an error.

    And so is what torch's deterministic form on CUDA does by a copy from ordinary memory (the strides of a scatter in
    more than one dimension, the gradient of a gather among them), or does not do at all.
    """

    FORBIDDEN = frozenset(
        ["_local_scalar_dense", "nonzero", "masked_select", "bincount", "unique_dim", "_unique2", "unique_consecutive"]
    )

    SCATTERS = frozenset(["scatter_add", "scatter_add_", "scatter", "scatter_", "scatter_reduce"])
    NO_ORDER = frozenset(
        [
            *("_adaptive_avg_pool2d_backward", "reflection_pad2d_backward", "grid_sampler_2d_backward"),
            *("upsample_bicubic2d_backward", "max_unpool2d", "nll_loss2d_forward", "cumsum"),
        ]
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            place is not None and place.dtype == torch.bool for place in args[1]
        )
        if name in self.FORBIDDEN or by_mask:
            raise RuntimeError(f"{name}{' by a mask' if by_mask else ''} makes the host wait")
        if name in self.SCATTERS and isinstance(args[3], Tensor) and args[0].dim() > 1:
            raise RuntimeError(f"{name} in {args[0].dim()} dimensions makes the host wait")
        each = name == "nll_loss2d_forward" and args[3] == 0  # nothing is added without a reduction
        if name in self.NO_ORDER and args[0].is_floating_point() and not each:
            raise RuntimeError(f"{name} has no deterministic form on CUDA")
        return func(*args, **(kwargs or {}))
