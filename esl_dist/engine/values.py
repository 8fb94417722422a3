"""The few numbers that a step gets from the host, in device memory: learning rates, the share of an average, wishes of
this rank.

They change from step to step, so a captured step must read them there; and one small copy a step that no one waits for
is all that the host sends.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

DEPTH = 4
"""Steps that may be on their way at once; a slot is filled again when the device has read it."""


class HostValues:
    """``count`` numbers, ``[count]`` on the device; element ``i`` as the 0-dim ``values[i]``, at one address for good.

    float32 on CUDA, as its fused optimisers want their rates, else float64.
    """

    def __init__(self, count: int, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        dtype = torch.float32 if self._cuda else torch.float64
        self.all = torch.zeros(count, dtype=dtype, device=device)
        self.values: tuple[Tensor, ...] = self.all.unbind()
        self._slots = [torch.zeros(count, dtype=dtype, pin_memory=self._cuda) for _ in range(DEPTH)]
        self._read: list[torch.cuda.Event | None] = [None] * DEPTH
        self._next = 0

    def send(self, numbers: Sequence[float]) -> None:
        """Fill them, in the current stream's order."""
        slot, event = self._slots[self._next], self._read[self._next]
        if event is not None:
            event.synchronize()
        for place, number in enumerate(numbers):
            slot[place] = number
        self.all.copy_(slot, non_blocking=True)
        if self._cuda:
            event = event or torch.cuda.Event()
            event.record()
            self._read[self._next] = event
        self._next = (self._next + 1) % DEPTH
