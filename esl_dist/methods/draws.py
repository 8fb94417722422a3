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
from torch import nn

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

    def drawing(self, seed: int, device: torch.device) -> contextlib.AbstractContextManager[None]:
        """Inside, networks draw from these."""
        own = seed + (zlib.crc32(self.purpose.encode()) << 32)
        keys = np.concatenate([hashes(own, position, 1) for position in self.positions]).view(np.int64)
        common = int(hashes(own + (1 << 31), self.step, 1)[0] >> np.uint64(2))
        return stochastic.drawing(torch.from_numpy(keys).to(device, non_blocking=True), common)


def on_the_host(network: nn.Module) -> str:
    """Why a step with this network needs the host (see ``engine.step.DeviceAlone``); empty where it does not."""
    drawn = getattr(ddp.inner(network), "draws", False)
    return "the network draws from the positions of its images, which the host has" if drawn else ""


def step_of(positions: Sequence[int], micro_batches: int, world: int) -> int:
    """Number of the optimiser step whose first micro-batch has ``positions`` on this rank; 0 where it has none."""
    return positions[0] // (micro_batches * world * len(positions)) if positions else 0
