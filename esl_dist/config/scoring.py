"""Options of evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from esl_dist.config.bounds import NonNegativeInt, Pixels, PositiveInt
from esl_dist.config.check import require

BnStatistics = Literal["running", "target"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
ForwardPrecision = Literal["auto", "fastest", "fp32", "tf32", "bf16", "fp16"]
"""Of a forward that is not trained by."""


@dataclass(frozen=True)
class EvalConfig:
    """Evaluation on labelled target images."""

    split: str = "val"
    """The target split that is scored; empty skips evaluation (labels withheld)."""
    input_size: tuple[Pixels, Pixels] = (1024, 512)
    """Width and height that the network sees."""
    at: Literal["native", "crop"] = "native"
    """Score at the label's own size, or at ``input_size`` (as MaxSquare's numbers are)."""
    batch: PositiveInt = 1
    """Images per forward."""
    precision: ForwardPrecision = "fp32"
    """Arithmetic of the forward, whatever the training's was; ``auto`` is the training's, ``fastest`` the device's
    (bf16 or tf32 on a GPU, fp32 on a CPU).
    """
    bn_statistics: tuple[BnStatistics, ...] = ("running",)
    """Statistics to evaluate with; each gives a row."""
    window: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)
    """Width and height of windows that slide over the input, averaged where they overlap; 0 takes the whole."""
    stride: tuple[NonNegativeInt, NonNegativeInt] = (0, 0)
    """Pixels from one window to the next, to the right and downwards; 0 is half a window."""
    averaged: Literal["logits", "probabilities"] = "logits"
    """What is averaged where windows overlap."""
    every: NonNegativeInt = 0
    """Steps between evaluations while training; 0 evaluates at the end of a stage only."""
    images: NonNegativeInt = 0
    """Score the first so many images only; 0 scores all."""

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            width, height = getattr(self, name)
            require(
                (width > 0 and height > 0) or (width, height) == (0, 0),
                f"eval.{name}",
                f"is a width and a height, or 0 and 0; not {width}x{height}",
            )
        fits = self.window[0] <= self.input_size[0] and self.window[1] <= self.input_size[1]
        require(fits, "eval.window", f"{self.window[0]}x{self.window[1]} is larger than eval.input_size")
