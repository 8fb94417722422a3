"""What a network draws in a pass, as functions of the seed, the pass, the step and the positions of its images.

So a resumed run, another number of ranks and another order of micro-batches draw the same.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from esl_dist.data.prefetch import sent
from esl_dist.data.sampler import hashes
from esl_dist.distributed import ddp
from esl_dist.models import stochastic


class Draws(NamedTuple):
    """A pass of a step: all of the numbers that a network may draw in it."""

    purpose: str
    """Names the pass, such as ``source``: what one draws no other does."""
    step: int
    """Number of the optimiser step, the same on all ranks."""
    positions: Sequence[int]
    """Of the images in their stream."""

    def keys(self, seed: int, device: torch.device) -> Keys:
        """What networks draw from, on the device."""
        own = seed + (zlib.crc32(self.purpose.encode()) << 32)
        numbers = [hashes(own, position, 1) for position in self.positions]
        numbers.append(hashes(own + (1 << 31), self.step, 1) >> np.uint64(2))
        made = sent(torch.from_numpy(np.concatenate(numbers).view(np.int64)), device)
        return Keys(made[:-1], made[-1:])


class Keys(NamedTuple):
    """A pass's numbers, made: what of a step the host has to make before the device takes the step alone."""

    own: Tensor
    """int64 ``[n]``, one for each image, on the device."""
    common: Tensor
    """int64 ``[1]``, likewise: what the images of all ranks share."""

    def drawing(self) -> contextlib.AbstractContextManager[None]:
        """Inside, networks draw from these."""
        return stochastic.drawing(self.own, self.common)


def on_the_host(network: nn.Module) -> str:
    """Why a step with this network needs the host (see ``engine.step.DeviceAlone``); empty where it does not."""
    said: str = getattr(ddp.inner(network), "host_work", "")
    return said


def drawn_by(network: nn.Module) -> str:
    """What of a step's network is captured on demand alone (see ``engine.step.DeviceAlone``)."""
    return "a network that draws" if getattr(ddp.inner(network), "draws", False) else ""


def step_of(positions: Sequence[int], micro_batches: int, world: int) -> int:
    """Number of the optimiser step whose first micro-batch has ``positions`` on this rank; 0 where it has none."""
    return positions[0] // (micro_batches * world * len(positions)) if positions else 0
