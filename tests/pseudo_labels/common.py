"""A network that is a table: image number i has given logits, so that extraction can be tested without a forward."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from esl_dist.config.schema import ExtractConfig, PseudoLabelConfig
from esl_dist.pseudo_labels.extraction import Extraction
from esl_dist.pseudo_labels.sets.forward import TargetImages
from esl_dist.pseudo_labels.sets.label_sets import LabelSet
from esl_dist.pseudo_labels.sets.teacher import Teacher

SIZE = (40, 24)  # width, height


def fake_logits(i: int) -> np.ndarray:
    """Blocks of 18 winning classes, one of them hardly ever: float32 [19, 17, 33] (the golden extraction's input)."""
    stream = np.random.RandomState(6_000_003 + i)
    winner = stream.randint(0, 18, (5, 9)).repeat(4, 0).repeat(4, 1)[:17, :33]
    z = 0.7 * stream.standard_normal((19, 17, 33))
    y, x = np.mgrid[:17, :33]
    z[winner, y, x] += 2 + 0.5 * winner
    return z.astype(np.float32)


def small_logits(i: int, num_classes: int = 5) -> np.ndarray:
    """float32 [C, 5, 7], of very different confidence from image to image; the last class never wins."""
    z = np.random.RandomState(i).standard_normal((num_classes, 5, 7)) * (0.5 + 3 * (i % 4))
    z[-1] = -50
    return z.astype(np.float32)


def table(logits: Sequence[np.ndarray], batch: int = 4) -> tuple[Callable[[torch.Tensor], torch.Tensor], TargetImages]:
    """A forward that looks logits up by the image's first pixel, and the images that carry their number there."""
    stacked = torch.from_numpy(np.stack(logits))

    def forward(images: torch.Tensor) -> torch.Tensor:
        assert len(images) == batch, "every forward has the same shape"
        return stacked[images[:, 0, 0, 0].long() % len(stacked)]

    def batches(indices: Sequence[int]) -> Iterator[tuple[list[int], torch.Tensor]]:
        for start in range(0, len(indices), batch):
            real = list(indices[start : start + batch])
            images = torch.zeros(batch, 3, 4, 4, dtype=torch.uint8)
            images[: len(real), 0, 0, 0] = torch.tensor(real, dtype=torch.uint8)
            yield real, images

    return forward, TargetImages([f"town/{i:03d}" for i in range(len(logits))], batches, (4, 4))


def without_some(source: TargetImages, broken: Sequence[int], allowed: int) -> TargetImages:
    """The same images, of which some cannot be read."""
    unreadable: dict[str, str] = {}

    def batches(indices: Sequence[int]) -> Iterator[tuple[Sequence[int], torch.Tensor]]:
        unreadable.update({source.names[i]: f"{source.names[i]}.png: cut short" for i in indices if i in broken})
        yield from source.batches([i for i in indices if i not in broken])

    return dataclasses.replace(source, batches=batches, allowed=allowed, unreadable=unreadable)


def run(
    logits: Sequence[np.ndarray],
    out: Path,
    *settings: PseudoLabelConfig,
    size: tuple[int, int] = SIZE,
    spool: str = "scores",
    shard: int = 3,
    spool_dir: str = "",
    from_spool: bool = False,
    lines: list[str] | None = None,
    checkpoint: str = "c0ffee",
    output_size: Callable[[int], tuple[int, int]] | None = None,
    batch: int = 4,
    watch: Callable[[], None] = lambda: None,
    truth: Callable[[int, tuple[int, int]], np.ndarray] | None = None,
    stop: Callable[[], bool] = lambda: False,
    weights: bool = False,
    broken: Sequence[int] = (),
    allowed: int = 0,
) -> list[LabelSet]:
    """Extract with ``settings`` into ``out/0``, ``out/1``, …; ``watch`` is called before every forward."""
    look_up, source = table(logits, batch)

    def forward(images: torch.Tensor) -> torch.Tensor:
        watch()
        return look_up(images)

    if output_size is not None:
        source = TargetImages(source.names, source.batches, source.input_size, output_size)
    if broken:
        source = without_some(source, broken, allowed)
    num_classes = logits[0].shape[0]

    @contextlib.contextmanager
    def opened() -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
        if lines is not None:
            lines.append("network loaded")
        yield forward

    extraction = Extraction(
        Teacher(opened, {"checkpoint": checkpoint}, [f"class {c}" for c in range(num_classes)]),
        source,
        ExtractConfig(size=size, batch=batch, spool=spool, shard=shard, spool_dir=spool_dir),  # type: ignore[arg-type]
        out / "spool",
        from_spool=from_spool,
        truth=truth,
        weights=weights,
        report=(lines if lines is not None else []).append,
        stop=stop,
    )
    return extraction.make({f"{i}": setting for i, setting in enumerate(settings or (PseudoLabelConfig(),))}, out, out)


def hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every PNG under a folder by its relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.png"))
    }


def numbers(label_set: LabelSet) -> dict[str, object]:
    """``thresholds.json`` without the world size, which alone may differ."""
    return {key: value for key, value in label_set.thresholds.items() if key != "world_size"}
