"""Which target images a report shows, and which panels each gets."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from esl_dist.data import open_domain
from esl_dist.data.dataset import Dataset
from esl_dist.data.transforms import resize_label
from esl_dist.labels import IGNORE, Protocol
from esl_dist.pseudo_labels.confidence import confidence_map
from esl_dist.pseudo_labels.sets import spool
from esl_dist.reporting import pictures
from esl_dist.reporting.pictures import Panel
from esl_dist.reporting.quality import read_label, spread
from esl_dist.reporting.record import RunRecord
from esl_dist.runs.folders import spool_folder

log = logging.getLogger(__name__)

IMAGES = 4


@dataclass(frozen=True)
class Row:
    """One target image with its panels."""

    name: str
    panels: tuple[Panel, ...]


def open_target(run: RunRecord) -> tuple[Dataset | None, str]:
    """The run's target images; or None and why they cannot be shown."""
    data = run.config.data
    try:
        return open_domain(dataclasses.replace(data, prepared=""), "target"), ""
    except ValueError as error:
        return None, str(error)


def gallery(run: RunRecord, target: Dataset | None, protocol: Protocol, images: int = IMAGES) -> list[Row]:
    """Rows for evenly spaced images of the label sets: nobody picked them."""
    sets = {name: run.folder.labels.set(name) for name in run.label_sets}
    names = next(iter(sets.values())).names() if sets else []
    chosen = [names[i] for i in spread(len(names), images)]
    predictions = _predictions(run, chosen)
    index = {name: i for i, name in enumerate(target.names)} if target is not None else {}
    rows = []
    for name in chosen:
        maps = {key: label for key, folder in sets.items() if (label := read_label(folder, name)) is not None}
        found = target if name in index else None
        panels = _panels(maps, run.label_title, predictions.get(name), found, index.get(name, -1), protocol)
        rows.append(Row(name, tuple(panels)))
    return rows


def _panels(
    maps: dict[str, NDArray[np.uint8]],
    title_of: Callable[[str], str],
    prediction: NDArray[np.uint8] | None,
    target: Dataset | None,
    i: int,
    protocol: Protocol,
) -> list[Panel]:
    height, width = next(iter(maps.values())).shape
    size = pictures.shown_size(height, width)
    panels = []
    image, truth = None, None
    if target is not None:
        image = target.image(i)
        panels.append(Panel("Target image", pictures.photo(image, size)))
        if target.labelled:
            truth = resize_label(target.label(i), (width, height)).numpy()
            panels.append(
                Panel("Ground truth", pictures.label_map(truth, protocol.palette, size), "for comparison only")
            )
    if prediction is not None:
        panels.append(
            Panel(
                "Prediction",
                pictures.label_map(prediction, protocol.palette, size),
                _wrong("before selection", prediction, truth),
            )
        )
    for key, label in maps.items():
        kept = f"{100 * (label != IGNORE).mean():.1f} % kept"
        panels.append(
            Panel(
                f"{title_of(key)} labels",
                pictures.label_map(label, protocol.palette, size),
                _wrong(kept, label, truth),
            )
        )
    if "ssl" in maps and "esl" in maps:
        background = image if image is not None else np.full((height, width, 3), 200, dtype=np.uint8)
        for keeps, drops in (("ssl", "esl"), ("esl", "ssl")):
            mask = (maps[keeps] != IGNORE) & (maps[drops] == IGNORE)
            only = np.where(mask, maps[keeps], np.uint8(IGNORE))
            share = f"{100 * mask.mean():.1f} % of pixels"
            title = f"{title_of(keeps)} keeps, {title_of(drops)} drops"
            panels.append(
                Panel(
                    title,
                    pictures.difference(background, maps[keeps], mask, protocol.palette, size),
                    _wrong(share, only, truth),
                )
            )
    return panels


def _wrong(text: str, label: NDArray[np.uint8], truth: NDArray[np.uint8] | None) -> str:
    """``text`` and the share of wrong labels, where ground truth tells."""
    if truth is None:
        return text
    judged = (label != IGNORE) & (truth != IGNORE)
    return f"{text}, {100 * (label != truth)[judged].mean():.1f} % wrong" if judged.any() else text


def _predictions(run: RunRecord, names: list[str]) -> dict[str, NDArray[np.uint8]]:
    """Argmax label maps of the network that made the first label set, from the spool it left, as far as that is still
    there.
    """
    found: dict[str, NDArray[np.uint8]] = {}
    teacher = next((str(content.get("checkpoint") or "") for content in run.label_sets.values()), "")
    if not re.fullmatch("[0-9a-f]{64}", teacher):
        return found
    wanted = set(names)
    try:
        for shard in _shards(run, teacher):
            for record in spool.read(shard, ["label", "logits"]):
                if record.name in wanted:
                    found[record.name] = _argmax(record)
    except (ValueError, KeyError) as error:
        log.warning("the report shows no predictions: %s", error)
    return found


def _shards(run: RunRecord, teacher: str) -> list[spool.ShardInfo]:
    """The files of the first spool that this network wrote: where the record of its labels says, or where the
    configuration puts it.
    """
    options, labels = run.config.extract, run.folder.labels
    told = [made.spool for folder in labels.teachers() if (made := folder.made.recall()) and made.spool]
    own = [*told, *([options.from_spool] if options.from_spool else []), str(labels.spool(teacher))]
    for place in (found for path in map(Path, own) for found in (path, spool_folder(path, options.spool_dir))):
        shards, layout = spool.listing(place, None)
        if layout is not None and layout.given.get("checkpoint") == teacher:
            return shards
    return []


def _argmax(record: spool.Record) -> NDArray[np.uint8]:
    if "label" in record.arrays:
        return np.asarray(record.arrays["label"], dtype=np.uint8)
    label, _ = confidence_map(record.arrays["logits"], record.size)
    return np.asarray(label, dtype=np.uint8)
