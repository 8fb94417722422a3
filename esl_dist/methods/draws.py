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
        common = int(hashes(own + (1 << 31), self.step, 1)[0] >> np.uint64(2))
        return Keys(keys_of(own, self.positions, device), common)


class Keys(NamedTuple):
    """A pass's numbers, made: what of a step the host has to make before the device takes the step alone."""

    own: Tensor
    """int64 ``[n]``, one for each image, on the device."""
    common: int
    """What the images of all ranks share; a network that reads it says so (``Segmenter.host_work``)."""

    def drawing(self) -> contextlib.AbstractContextManager[None]:
        """Inside, networks draw from these."""
        return stochastic.drawing(self.own, self.common)


def keys_of(seed: int, positions: Sequence[int], device: torch.device) -> Tensor:
    """A random 64-bit number for each position, int64 ``[n]`` on the device."""
    keys = np.concatenate([hashes(seed, position, 1) for position in positions])
    return sent(torch.from_numpy(keys.view(np.int64)), device)


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
