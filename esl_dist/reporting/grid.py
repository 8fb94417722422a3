"""One scored image as several networks of a run see it: a picture for a paper or a README."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from esl_dist.atomic import write_bytes
from esl_dist.data import open_dataset
from esl_dist.data.decode import read_ids
from esl_dist.data.transforms import resize_label
from esl_dist.labels import IGNORE, protocol
from esl_dist.reporting.record import RunRecord, read_run

WIDTH, GAP, LINE = 320, 8, 22
"""Pixels: a panel across, between two panels, and for a line of text below each."""
COLUMNS = 3
_PAGE, _INK = (255, 255, 255), (40, 44, 50)


def write_grid(run_dir: Path, out: Path, stages: Sequence[str] = (), number: int = 0) -> Path:
    """Write a PNG: an image, its ground truth, and the label maps of the stages, three panels a row, each with its
    share of wrong pixels.

    Args:
        stages: folders of the run, in the order of the panels; none for every stage that has predictions.
        number: which of the images that the run kept predictions of, from 0.

    Raises:
        ValueError: the folder is not a run's, a stage or an image is not there, or a file is damaged.
    """
    run = read_run(run_dir)
    chosen = _chosen(run, stages)
    kept = run.folder.stage(chosen[0]).predicted()
    if not 0 <= number < len(kept):
        raise ValueError(f"{run_dir}: predictions of {len(kept)} images were kept, there is no number {number}")
    name, table = kept[number], protocol(run.config.data.classes)
    data = run.config.data
    dataset = open_dataset(data.target, data.root, data.classes, run.config.eval.split)
    index = list(dataset.names).index(name)
    image = Image.fromarray(dataset.image(index))
    size = WIDTH, max(1, round(image.height * WIDTH / image.width))
    panels = [("target image", image.resize(size, Image.Resampling.LANCZOS))]
    truth = resize_label(dataset.label(index), size).numpy() if dataset.labelled else None
    if truth is not None:
        panels.append(("ground truth", _coloured(truth, table.palette)))
    titles = {stage.folder: stage.title for stage in run.stages}
    for folder in chosen:
        label = resize_label(read_ids(run.folder.stage(folder).prediction(name)), size).numpy()
        panels.append((titles[folder] + _wrong(label, truth), _coloured(label, table.palette)))
    buffer = io.BytesIO()
    _sheet(panels, size).quantize(128, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    write_bytes(out, buffer.getvalue())
    return out


def _chosen(run: RunRecord, stages: Sequence[str]) -> list[str]:
    have = [stage.folder for stage in run.stages if run.folder.stage(stage.folder).predicted()]
    unknown = [name for name in stages if name not in have]
    if unknown or not have:
        known = ", ".join(have) or "none"
        raise ValueError(
            f"{run.path}: {unknown[0] if unknown else 'no stage'} has no predictions; those that have: {known}"
        )
    return list(stages) or have


def _wrong(label: np.ndarray, truth: np.ndarray | None) -> str:
    judged = None if truth is None else truth != IGNORE
    if judged is None or not judged.any():
        return ""
    return f", {100 * (label != truth)[judged].mean():.1f} % wrong"


def _coloured(label: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> Image.Image:
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return Image.fromarray(table[label])


def _sheet(panels: Sequence[tuple[str, Image.Image]], size: tuple[int, int]) -> Image.Image:
    columns, (width, height) = min(COLUMNS, len(panels)), size
    rows = -(-len(panels) // columns)
    whole = columns * (width + GAP) + GAP, rows * (height + LINE + GAP) + GAP
    sheet = Image.new("RGB", whole, _PAGE)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for number, (title, picture) in enumerate(panels):
        x, y = GAP + number % columns * (width + GAP), GAP + number // columns * (height + LINE + GAP)
        sheet.paste(picture, (x, y))
        draw.text((x, y + height + 4), title, fill=_INK, font=font)
    return sheet
