"""What a translation did: images there and back, and how far the source's colours moved to the target's."""

from __future__ import annotations

import json
from dataclasses import dataclass

from esl_dist.data.decode import read_rgb
from esl_dist.reporting.pictures import Panel, photo, shown_size
from esl_dist.reporting.record import RunRecord

_STEPS = {
    "source": ("Source image", "in the target’s look", "and back"),
    "target": ("Target image", "in the source’s look", "and back"),
}


@dataclass(frozen=True)
class Translated:
    """One translation of a run."""

    title: str
    colours: tuple[tuple[str, tuple[tuple[float, float], ...]], ...]
    """Images (source, translated, target), and mean and deviation of their R, G and B."""
    rows: tuple[tuple[Panel, ...], ...]
    """An image, its translation, and the way back."""


def translations(run: RunRecord) -> list[Translated]:
    """The finished translations of a run.

    Raises:
        ValueError: a file that a finished one left is damaged.
    """
    return [
        _read(run, stage.folder, stage.title)
        for stage in run.stages
        if (run.path / stage.folder / "look.json").is_file()
    ]


def _read(run: RunRecord, folder: str, title: str) -> Translated:
    path = run.path / folder
    content = json.loads((path / "look.json").read_text(encoding="utf-8"))
    colours = tuple((name, tuple(zip(entry["mean"], entry["std"], strict=True))) for name, entry in content.items())
    rows = []
    for domain, steps in _STEPS.items():
        for first in sorted((path / "pictures").glob(f"{domain}-*-0.png")):
            images = [read_rgb(first.with_name(f"{first.stem[:-1]}{step}.png")) for step in range(len(steps))]
            size = shown_size(*images[0].shape[:2])
            rows.append(tuple(Panel(name, photo(image, size)) for name, image in zip(steps, images, strict=True)))
    return Translated(title, colours, tuple(rows))
