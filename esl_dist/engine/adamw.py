"""AdamW for encoders of every kind: rates that differ between head and encoder and fall with depth, and its schedules.

DAFormer, HRDA and MIC: 6e-5, heads ten times that, names with ``norm`` not decayed, warm-up within the decay. VFM-UDA:
heads at 5e-5 and the encoder a tenth, times the square root of the global batch, in VFM-UDA++ 0.9 times less per block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import torch
from torch import nn


class Group(Protocol):
    """Parameters of a network that belong together (``models/segmenter.py``)."""

    @property
    def parameters(self) -> Sequence[tuple[str, nn.Parameter]]: ...

    @property
    def head(self) -> bool: ...

    @property
    def depth(self) -> int: ...


class Grouped(Protocol):
    """A network that says what its groups are."""

    def parameter_groups(self) -> Sequence[Group]: ...


@dataclass(frozen=True)
class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter, ICLR 2019), betas 0.9 and 0.999, epsilon 1e-8."""

    lr: float
    """Of the encoder's last block."""
    head_lr: float = 10.0
    """Heads learn this many times faster."""
    weight_decay: float = 0.01
    no_decay: tuple[str, ...] = ("norm",)
    """Parameters whose name holds one of these are not decayed."""
    layer_decay: float = 1.0
    """Rates fall by this factor with every block towards the image."""
    backend: str = "auto"

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """Every group of the network in two: what is decayed and what is not."""
        groups: list[dict[str, Any]] = []
        for group in cast(Grouped, network).parameter_groups():
            rate = self.lr * (self.head_lr if group.head else self.layer_decay**group.depth)
            for decays in (True, False):
                chosen = [p for name, p in group.parameters if self._decays(name) is decays]
                if chosen:
                    decay = self.weight_decay if decays else 0.0
                    groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
        option = {"foreach": True} if self.backend == "foreach" else {"fused": True}
        return torch.optim.AdamW(groups, lr=self.lr, betas=(0.9, 0.999), eps=1e-8, **option)

    def _decays(self, name: str) -> bool:
        return not any(part in name for part in self.no_decay)


@dataclass(frozen=True)
class Warmed:
    """``(1 - t/total)^power`` after a linear warm-up from ``start`` to 1."""

    total: int
    power: float = 1.0
    warmup: int = 1500
    start: float = 1e-6
    together: bool = True
    """The decay goes on during the warm-up (DAFormer), or begins after it with a small drop (VFM-UDA)."""

    def __call__(self, step: int) -> float:
        """Factor of every rate at ``step`` (0-based)."""
        decayed = float((1 - min(step, self.total) / self.total) ** self.power)
        if step >= self.warmup:
            return decayed
        warm = 1 - (1 - step / self.warmup) * (1 - self.start)
        return warm * decayed if self.together else warm

    def over(self, steps: int) -> Warmed:
        """For a stage of so many steps: the decay always ends with the stage."""
        return replace(self, total=steps)
