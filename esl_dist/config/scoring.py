"""Options of evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BnStatistics = Literal["running", "target"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation on labelled target images."""

    split: str = "val"
    """The target split that is scored; empty skips evaluation (labels withheld)."""
    input_size: tuple[int, int] = (1024, 512)
    """Width and height that the network sees."""
    at: Literal["native", "crop"] = "native"
    """Score at the label's own size, or at ``input_size`` (as MaxSquare's numbers are)."""
    batch: int = 1
    """Images per forward."""
    bn_statistics: tuple[BnStatistics, ...] = ("running",)
    """Statistics to evaluate with; each gives a row."""
    every: int = 0
    """Steps between evaluations while training; 0 evaluates at the end of a stage only."""
    images: int = 0
    """Score the first so many images only; 0 scores all."""
