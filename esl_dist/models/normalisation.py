"""How a network wants its images: the order of the channels, what is subtracted from them and what divides them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Normalisation:
    """``(x - mean) / deviation`` per channel of an image with values 0-255.

    ``mean`` and ``deviation`` are in the order that ``order`` names, which is the order that the network reads.
    """

    order: Literal["bgr", "rgb"]
    mean: Channels
    deviation: Channels = (1.0, 1.0, 1.0)

    def __post_init__(self) -> None:
        if (
            self.order not in ("bgr", "rgb")
            or len(self.mean) != 3
            or len(self.deviation) != 3
            or min(self.deviation) <= 0
        ):
            raise ValueError(
                f"normalisation: an order of bgr or rgb, three means and three deviations above 0, not {self}"
            )

    @classmethod
    def of_bgr(cls, order: Literal["bgr", "rgb"], mean_bgr: Channels, deviation_bgr: Channels) -> Normalisation:
        """From values in the order B, G, R, as ``data.mean`` has them whatever the network reads."""
        return (
            cls(order, mean_bgr, deviation_bgr) if order == "bgr" else cls(order, mean_bgr[::-1], deviation_bgr[::-1])
        )

    def in_bgr(self) -> Normalisation:
        """The same with values in the order B, G, R, as the options have them."""
        return self if self.order == "bgr" else Normalisation("bgr", self.mean[::-1], self.deviation[::-1])

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 RGB ``[N, 3, H, W]`` to the float32 images of that shape that the network reads, on their device."""
        pixels = images.flip(1).to(torch.float32) if self.order == "bgr" else images.to(torch.float32, copy=True)
        return self._divide_(pixels.sub_(_constant(self.mean, images.device, torch.float32)))

    def of_values(self, images_rgb: Tensor) -> Tensor:
        """As ``__call__`` for RGB of any floating type, 0-255, without changing them: gradients flow through."""
        pixels = images_rgb.flip(1) if self.order == "bgr" else images_rgb
        return self._divide_(pixels - _constant(self.mean, pixels.device, pixels.dtype))

    def _divide_(self, centred: Tensor) -> Tensor:
        """In place. One number for all channels divides as a number: CUDA rounds that otherwise than a tensor."""
        first = self.deviation[0]
        if self.deviation == (1.0, 1.0, 1.0):
            return centred
        return centred.div_(
            first
            if self.deviation == (first, first, first)
            else _constant(self.deviation, centred.device, centred.dtype)
        )


@functools.cache
def _constant(values: Channels, device: torch.device, dtype: torch.dtype) -> Tensor:
    """``[1, 3, 1, 1]``, made once per device: no forward waits for a copy from the host."""
    with torch.inference_mode(False):  # made inside it, it could take no part in a training step later
        return torch.tensor(values, dtype=dtype, device=device).view(1, 3, 1, 1)
