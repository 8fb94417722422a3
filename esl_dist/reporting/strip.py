"""What each network says of the same images: its labels, over the photograph, and where they are wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_dist.data import open_dataset
from esl_dist.data.decode import read_ids
from esl_dist.data.transforms import resize_label
from esl_dist.labels import IGNORE, Protocol
from esl_dist.reporting import pictures
from esl_dist.reporting.record import NO_METHOD, RunRecord

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


@dataclass(frozen=True)
class Extremes:
    """The images that one stage's network is worst and best at."""

    title: str
    worst: tuple[Image, ...]
    best: tuple[Image, ...]


def strip(run: RunRecord, protocol: Protocol) -> list[Image]:
    """The images that every scored stage has a prediction of; empty for runs of earlier releases.

    Raises:
        ValueError: the scored images, or a prediction, cannot be read.
    """
    stages = [(stage.title, run.folder.stage(stage.folder)) for stage in run.stages if stage.metrics]
    shown = [(title, folder) for title, folder in stages if folder.predicted()]
    if not shown:
        return []
    scored = _Scored(run, protocol)
    names = shown[0][1].predicted()
    made = (scored.image(name, [(title, folder.prediction(name)) for title, folder in shown]) for name in names)
    return [image for image in made if image is not None]


def extremes(run: RunRecord, protocol: Protocol) -> Extremes | None:
    """Of the best method by mIoU, or of the last stage where there is none; None where nothing says which they are.

    Raises:
        ValueError: the scored images, or a prediction, cannot be read.
    """
    kind = next(iter(run.config.eval.bn_statistics))
    stages = [stage for stage in run.stages if stage.miou(kind) is not None and "worst" in stage.metrics[kind]]
    methods = [stage for stage in stages if stage.role not in NO_METHOD] or stages[-1:]
    if not methods:
        return None
    stage = max(methods, key=lambda one: one.miou(kind) or 0.0)
    folder, scores, scored = run.folder.stage(stage.folder), stage.metrics[kind], _Scored(run, protocol)

    def images(named: Sequence[tuple[str, float]]) -> tuple[Image, ...]:
        made = (scored.image(name, [(stage.title, folder.extreme(name))]) for name, _ in named)
        return tuple(image for image in made if image is not None)

    found = Extremes(stage.title, images(scores["worst"]), images(scores["best"]))
    return found if found.worst else None


class _Scored:
    """The scored images of a run, as a page shows them."""

    def __init__(self, run: RunRecord, protocol: Protocol) -> None:
        data = run.config.data
        self._dataset = open_dataset(data.target, data.root, data.classes, run.config.eval.split)
        self._index = {name: number for number, name in enumerate(self._dataset.names)}
        self._palette = protocol.palette

    def image(self, name: str, predictions: Sequence[tuple[str, Path]]) -> Image | None:
        """One image with its ground truth and what each title's label map says; None where nothing is there."""
        maps = [(title, read_ids(path)) for title, path in predictions if path.is_file()]
        if name not in self._index or not maps:
            return None
        dataset, number, size = self._dataset, self._index[name], _size(maps[0][1])
        truth = resize_label(dataset.label(number), size).numpy() if dataset.labelled else None
        photo = pictures.photo(dataset.image(number), size)
        return Image(name, photo, tuple(_said(maps, truth, size, self._palette)))


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
