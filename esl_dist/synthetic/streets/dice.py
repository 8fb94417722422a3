"""Random draws that are the same bits on every platform and under every numpy.

Only the raw 64-bit words of PCG64 are used, the one stream that numpy promises to keep: the methods of its
``Generator`` may change between versions, and ``normal``, ``poisson`` and ``uniform`` go through ``exp``, ``log`` or a
multiply-add that some compilers fuse.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
Range = tuple[float, float]
TILE = 256


class Dice:
    """One scene's stream of draws, a pure function of the integers in ``key``."""

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))

    def unit(self) -> float:
        """Uniform in [0, 1), a multiple of 2^-53."""
        return (int(self._bits.random_raw()) >> 11) / 9007199254740992.0

    def words(self, count: int) -> NDArray[np.uint64]:
        """``count`` raw words."""
        raw: NDArray[np.uint64] = self._bits.random_raw(count)
        return raw

    def between(self, span: Range) -> float:
        """Uniform in ``[span[0], span[1])``."""
        return span[0] + (span[1] - span[0]) * self.unit()

    def chance(self, probability: float) -> bool:
        return self.unit() < probability

    def side(self) -> int:
        """-1 (left) or +1 (right)."""
        return 1 if self.chance(0.5) else -1

    def count(self, mean: float) -> int:
        """A whole number between half and one and a half of ``mean``, ``mean`` on average."""
        return int(mean * (0.5 + self.unit()) + self.unit())

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.unit() * len(items))]

    def offset(self) -> int:
        """A shift within a noise tile."""
        return int(self.unit() * TILE)

    def grain(self, height: int, width: int) -> NDArray[np.float32]:
        """Sensor noise ``[height, width, 3]``: the sum of two bytes, triangular in [-1, 1], standard deviation 0.41."""
        half = height * width * 3
        raw = self.words(-(-2 * half // 8)).astype("<u8").view(np.uint8)[: 2 * half].reshape(2, height, width, 3)
        grain: NDArray[np.float32] = (
            raw[0].astype(np.float32) + raw[1].astype(np.float32) - np.float32(255.0)
        ) * np.float32(1 / 255)
        return grain


def _smooth(grid: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Periodic bilinear enlargement by ``factor`` along both axes."""
    for axis in (0, 1):
        ahead = np.roll(grid, -1, axis)
        steps = [grid + (ahead - grid) * (k / factor) for k in range(factor)]
        shape = list(grid.shape)
        shape[axis] *= factor
        grid = np.stack(steps, axis + 1).reshape(shape)
    return grid


@lru_cache(maxsize=1)
def noise_tiles() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two periodic ``[256, 256]`` textures in about [-1, 1]: fine grain, and coarse blotches."""
    dice = Dice(20260101)

    def octave(factor: int) -> NDArray[np.float64]:
        side = TILE // factor
        steps = (dice.words(side * side) >> np.uint64(53)).astype(np.float64).reshape(side, side)
        return _smooth(steps / 1024.0 - 1.0, factor)

    fine = 0.6 * octave(1) + 0.6 * octave(2) + 0.3 * octave(4)
    coarse = 0.8 * octave(16) + 0.6 * octave(32) + 0.3 * octave(8)
    return fine.astype(np.float32), coarse.astype(np.float32)


def rolled(tile: NDArray[np.float32], height: int, width: int, dice: Dice) -> NDArray[np.float32]:
    """A ``[height, width]`` piece of ``tile`` at a drawn offset, repeated where it is larger than the tile."""
    rows = (np.arange(height) + dice.offset()) % TILE
    columns = (np.arange(width) + dice.offset()) % TILE
    return tile[rows[:, None], columns[None]]
