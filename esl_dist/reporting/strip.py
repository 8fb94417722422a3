"""What each network says of the same images: its labels, over the photograph, and where they are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esl_dist.data import open_dataset
from esl_dist.data.decode import read_ids
from esl_dist.data.transforms import resize_label
from esl_dist.labels import IGNORE, Protocol
from esl_dist.reporting import pictures
from esl_dist.reporting.record import RunRecord

WIDTH = 480
"""Pixels across, at most."""

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Said:
    """A network's label map of an image, and where it is wrong, as data URIs of the same size."""

    title: str
    labels: str
    errors: str
    caption: str


@dataclass(frozen=True)
class Image:
    """One scored image, with what every stage's network says of it."""

    name: str
    photo: str
    said: tuple[Said, ...]
    """The ground truth first, where there is some."""


def strip(run: RunRecord, protocol: Protocol) -> list[Image]:
    """The images that every scored stage has a prediction of; empty for runs of earlier releases.

    Raises:
        ValueError: the scored images, or a prediction, cannot be read.
    """
    stages = [(stage.title, run.folder.stage(stage.folder)) for stage in run.stages if stage.metrics]
    shown = [(title, folder) for title, folder in stages if folder.predicted()]
    if not shown:
        return []
    data = run.config.data
    dataset = open_dataset(data.target, data.root, data.classes, run.config.eval.split)
    index = {name: number for number, name in enumerate(dataset.names)}
    made = []
    for name in shown[0][1].predicted():
        maps = [
            (title, read_ids(folder.prediction(name))) for title, folder in shown if folder.prediction(name).is_file()
        ]
        if name not in index or not maps:
            continue
        size = _size(maps[0][1])
        truth = resize_label(dataset.label(index[name]), size).numpy() if dataset.labelled else None
        photo = pictures.photo(dataset.image(index[name]), size)
        made.append(Image(name, photo, tuple(_said(maps, truth, size, protocol.palette))))
    return made


def _size(label: Pixels) -> tuple[int, int]:
    """Width and height at which a label map is shown."""
    factor = min(1.0, WIDTH / label.shape[1])
    return max(1, round(label.shape[1] * factor)), max(1, round(label.shape[0] * factor))


def _said(
    maps: Sequence[tuple[str, Pixels]], truth: Pixels | None, size: tuple[int, int], palette: pictures.Palette
) -> list[Said]:
    found = []
    if truth is not None:
        nothing = np.zeros(truth.shape, bool)
        found.append(Said("Ground truth", pictures.label_map(truth, palette, size), pictures.mask(nothing), ""))
    for title, large in maps:
        label = resize_label(large, size).numpy()
        wrong = np.zeros(label.shape, bool) if truth is None else (label != truth) & (truth != IGNORE)
        judged = 0 if truth is None else int(np.count_nonzero(truth != IGNORE))
        caption = f"{100 * np.count_nonzero(wrong) / judged:.1f} % of pixels wrong" if judged else ""
        found.append(Said(title, pictures.label_map(label, palette, size), pictures.mask(wrong), caption))
    return found
