"""A contact sheet of a data set: photographs, the labels over them in the protocol's colours, and what the colours
mean.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from esl_dist.atomic import write_bytes
from esl_dist.data import DataError
from esl_dist.data.dataset import FolderDataset
from esl_dist.data.transforms import resize_label
from esl_dist.labels import IGNORE, Protocol

TILE_WIDTH, GAP, LINE = 400, 4, 18
BACKGROUND, INK = (255, 255, 255), (30, 30, 30)
STRENGTH = 0.6
"""How much of a pixel's colour is its label's."""


def contact_sheet(data: FolderDataset, indices: Sequence[int], table: Protocol, path: Path) -> int:
    """Write a PNG with one row per sample: the image, the labels over it, the name. Samples that cannot be read are
    left out.

    Returns:
        Rows on the sheet; nothing is written where there is none.
    """
    rows = [row for index in indices if (row := _row(data, index, table)) is not None]
    if not rows:
        return 0
    columns = 2 if data.labelled else 1
    width = max(columns * (TILE_WIDTH + GAP) + GAP, 2 * TILE_WIDTH)
    legend = _legend(table, width) if data.labelled else None
    heights = [row[0].height + LINE + GAP for row in rows]
    sheet = Image.new("RGB", (width, GAP + sum(heights) + (legend.height if legend else 0)), BACKGROUND)
    draw, y = ImageDraw.Draw(sheet), GAP
    for row, height in zip(rows, heights, strict=True):
        for column, tile in enumerate(row[:columns]):
            sheet.paste(tile, (GAP + column * (TILE_WIDTH + GAP), y))
        draw.text((GAP, y + row[0].height + 2), str(row[0].info["name"]), fill=INK)
        y += height
    if legend:
        sheet.paste(legend, (0, y))
    png = io.BytesIO()
    sheet.save(png, format="PNG")
    write_bytes(path, png.getvalue())
    return len(rows)


def overlay(image: NDArray[np.uint8], label: NDArray[np.uint8], table: Protocol) -> NDArray[np.uint8]:
    """uint8 RGB ``[H, W, 3]`` with the label's colour mixed in; ignored pixels stay the photograph's."""
    colours = np.zeros((256, 3), np.float32)
    colours[: table.num_classes] = table.palette
    strength = np.where(label == IGNORE, 0, STRENGTH).astype(np.float32)[..., None]
    mixed: NDArray[np.uint8] = (image * (1 - strength) + colours[label] * strength).round().astype(np.uint8)
    return mixed


def _row(data: FolderDataset, index: int, table: Protocol) -> list[Image.Image] | None:
    try:
        image = data.image(index)
        label = data.label(index) if data.labelled else None
    except DataError:
        return None
    size = (TILE_WIDTH, max(1, round(image.shape[0] * TILE_WIDTH / image.shape[1])))
    small = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    small.info["name"] = data.names[index]
    if label is None:
        return [small]
    return [small, Image.fromarray(overlay(np.array(small), resize_label(label, size).numpy(), table))]


def _legend(table: Protocol, width: int) -> Image.Image:
    per_line = max(1, width // 130)
    lines = -(-table.num_classes // per_line)
    legend = Image.new("RGB", (width, lines * LINE + GAP), BACKGROUND)
    draw = ImageDraw.Draw(legend)
    for number, (name, colour) in enumerate(zip(table.classes, table.palette, strict=True)):
        x, y = GAP + number % per_line * 130, number // per_line * LINE
        draw.rectangle((x, y + 3, x + 11, y + 14), fill=colour)
        draw.text((x + 16, y + 3), name, fill=INK)
    return legend
