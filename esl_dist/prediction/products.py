"""The files that are made of a frame: label maps, overlays, a test server's ids, maps of confidence."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from esl_dist.labels import ENCODINGS, IGNORE
from esl_dist.prediction.forward import Predicted

SUFFIXES = {"labels": ".png", "overlays": ".jpg", "ids": ".png", "confidence": ".png", "entropy": ".png"}
"""Of the kinds of files, each in a folder of its name."""

_JPEG_QUALITY = 92


class Classes(Protocol):
    """Names and colours of a network's classes, in the order of its train ids."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]: ...


@dataclass(frozen=True)
class Products:
    """What is made of every frame.

    Args:
        kinds: of ``SUFFIXES``; ``labels`` among them.
        alpha: how much of an overlay's pixel is its class's colour, 0-1.
    """

    classes: Classes
    kinds: tuple[str, ...]
    alpha: float = 0.5

    def path(self, out: Path, kind: str, name: str) -> Path:
        """Where a file belongs; ``ValueError`` for a name that would leave the folder."""
        pure = PurePosixPath(name)
        if not name or pure.is_absolute() or ".." in pure.parts:
            raise ValueError(f"frame name {name!r} points outside the output folder")
        return out / kind / f"{name}{SUFFIXES[kind]}"

    def encode(self, kind: str, image: NDArray[np.uint8], predicted: Predicted) -> bytes:
        """The bytes of a file. ``image``: uint8 RGB ``[H, W, 3]``."""
        match kind:
            case "labels":
                return _png(_paletted(predicted.label, self.classes.palette))
            case "overlays":
                buffer = io.BytesIO()
                Image.fromarray(overlay(image, predicted.label, self.classes.palette, self.alpha)).save(
                    buffer, "JPEG", quality=_JPEG_QUALITY
                )
                return buffer.getvalue()
            case "ids":
                return _png(Image.fromarray(server_ids(self.classes.classes)[predicted.label]))
            case "confidence" | "entropy":
                values = predicted.confidence if kind == "confidence" else predicted.entropy
                assert values is not None
                return _png(Image.fromarray((values * 255).round().astype(np.uint8)))
        raise AssertionError(kind)


def overlay(
    image: NDArray[np.uint8], label: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]], alpha: float
) -> NDArray[np.uint8]:
    """uint8 RGB ``[H, W, 3]`` with ``alpha`` of each label's colour mixed in, rounded; 255 (ignored) leaves the
    photograph.
    """
    colours = np.zeros((256, 3), np.float32)
    colours[: len(palette)] = palette
    strength = np.full(256, alpha, np.float32)
    strength[IGNORE] = 0
    share = strength[label][..., None]
    mixed: NDArray[np.uint8] = (image * (1 - share) + colours[label] * share).round().astype(np.uint8)
    return mixed


def server_ids(names: Sequence[str]) -> NDArray[np.uint8]:
    """Train id to Cityscapes' label id, as its test server reads them: uint8 ``[256]``, 0 (unlabelled) where there is
    none.

    Raises:
        ValueError: these classes are not Cityscapes' own, each with one label id.
    """
    stored = {name: number for number, name in ENCODINGS["cityscapes"].names.items()}
    table = np.zeros(256, np.uint8)
    for train, name in enumerate(names):
        if name not in stored:
            raise ValueError(
                f"--ids: {name} is no class of Cityscapes, so its test server has no id for it; leave --ids out"
            )
        table[train] = stored[name]
    return table


def _paletted(label: NDArray[np.uint8], palette: Sequence[tuple[int, int, int]]) -> Image.Image:
    """Train ids that a picture viewer shows in the classes' colours; whoever reads the indices gets the ids."""
    picture = Image.fromarray(np.ascontiguousarray(label)).convert("L")
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    picture.putpalette(table.tobytes())
    return picture


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
