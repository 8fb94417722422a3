"""What somebody wants predicted, checked; and what a prediction is a function of beside its frame."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from esl_dist.config.bounds import Pixels, check_value
from esl_dist.config.schema import Config
from esl_dist.data.sampler import spread
from esl_dist.metrics.sliding import windowed
from esl_dist.prediction.forward import Network, Whole, Windows, filled
from esl_dist.prediction.frames import Frames
from esl_dist.runs import CheckpointFolder


@dataclass(frozen=True)
class Asked:
    """The arguments of ``predict`` that decide what its files hold."""

    checkpoint: Path
    size: str | None
    window: str | None
    batch: int | None
    precision: str
    bn: str
    alpha: float
    ids: bool
    confidence: bool
    entropy: bool

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"--alpha: must be between 0 and 1, not {self.alpha}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"--batch: must be 1 or more, not {self.batch}")
        if self.size and self.window:
            raise ValueError("--size and --window: give one of them")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of files, see ``products.SUFFIXES``."""
        wanted = {
            "labels": True,
            "overlays": self.alpha > 0,
            "ids": self.ids,
            "confidence": self.confidence,
            "entropy": self.entropy,
        }
        return tuple(kind for kind, asked in wanted.items() if asked)

    def forward(self, config: Config, network: Network) -> Whole | Windows:
        """How images reach the network."""
        batch, maps = self.batch or config.eval.batch, self.confidence or self.entropy
        if self.window:
            return Windows(network, sized("--window", self.window), batch, maps)
        fit = config.data.target.fit
        if self.size:
            return Whole(network, sized("--size", self.size), fit, batch, maps)
        return Whole(windowed(network, config.eval), config.eval.input_size, fit, batch, maps)


def require_apart(out: Path, images: str) -> None:
    """``ValueError`` where what is written would be among what is read."""
    folder = Path(images)
    if folder.is_dir() and out.resolve().is_relative_to(folder.resolve()):
        raise ValueError(
            f"--out: {out} lies in --images {images}, so the same command would take its overlays for frames; choose a"
            " folder beside it"
        )


def sized(name: str, text: str) -> tuple[int, int]:
    """``1024x512`` as width and height; ``ValueError`` names the argument."""
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found:
        raise ValueError(f"{name}: {text!r} is not a size such as 1024x512")
    width, height = int(found[1]), int(found[2])
    for side in (width, height):
        check_value(Pixels, side, name)
    return width, height


def batches(frames: Frames, forward: Whole | Windows, images: int) -> Iterator[Tensor]:
    """What batch-norm statistics are re-estimated on: evenly spaced frames as the network sees them, in full batches;
    of fewer than a batch, one that repeats them.
    """
    waiting: list[Tensor] = []
    full = False
    for frame in frames.read(spread(len(frames.names), images)):
        waiting += forward.inputs(frame.image) if frame.image is not None else []
        while len(waiting) >= forward.batch:
            full = True
            yield filled(waiting[: forward.batch], forward.batch)
            waiting = waiting[forward.batch :]
    if waiting and not full:
        yield filled([waiting[i % len(waiting)] for i in range(forward.batch)], forward.batch)


def identity(
    asked: Asked, config: Config, classes: Sequence[str], forward: Whole | Windows, frames: Frames
) -> dict[str, Any]:
    """The settings of a folder of predictions, JSON-ready. Statistics of the frames depend on all of them."""
    checkpoint = asked.checkpoint
    file = CheckpointFolder(checkpoint).segmenter if checkpoint.is_dir() else checkpoint
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    found: dict[str, Any] = {
        "checkpoint": digest,
        "classes": ", ".join(classes),
        "seen at": f"{_text(forward.size)} {'windows' if isinstance(forward, Windows) else forward.fit}",
        "batch": forward.batch,
        "precision": asked.precision,
        "batch norm": asked.bn,
        "alpha": asked.alpha,
    }
    if config.eval.window != (0, 0) and not (asked.size or asked.window):
        windows = f"{_text(config.eval.window)} every {_text(config.eval.stride)}"
        found["windows"] = f"{windows}, mean of {config.eval.averaged}"
    if asked.bn == "frames":
        found["frames"] = hashlib.sha256("\n".join(frames.names).encode()).hexdigest()
        found["frames of statistics"] = config.extract.bn_images
    return found


def _text(size: tuple[int, int]) -> str:
    return "x".join(map(str, size))
