"""What a translation did: images there and back, and how far the source's colours moved to the target's."""

from __future__ import annotations

from dataclasses import dataclass

from esl_dist.data.decode import read_rgb
from esl_dist.reporting.pictures import Panel, photo, shown_size
from esl_dist.reporting.record import RunRecord
from esl_dist.runs import StageFolder

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
    found = [(stage.title, run.folder.stage(stage.folder)) for stage in run.stages]
    return [_read(folder, title) for title, folder in found if folder.look.exists()]


def _read(folder: StageFolder, title: str) -> Translated:
    look = folder.look.read()
    colours = tuple((name, tuple(zip(entry["mean"], entry["std"], strict=True))) for name, entry in look.items())
    rows = []
    for domain, steps in _STEPS.items():
        number = 0
        while folder.picture(domain, number, 0).is_file():
            images = [read_rgb(folder.picture(domain, number, step)) for step in range(len(steps))]
            size = shown_size(*images[0].shape[:2])
            rows.append(tuple(Panel(name, photo(image, size)) for name, image in zip(steps, images, strict=True)))
            number += 1
    return Translated(title, colours, tuple(rows))
