"""Losses are computed in float32 whatever the network ran in; float64 inputs stay float64."""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """``x`` as float32, or itself where it is float64."""
    return x if x.dtype == torch.float64 else x.float()
