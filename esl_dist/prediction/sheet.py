"""``index.html`` of a folder of predictions: evenly spaced frames with what was made of them, and what the colours
mean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from esl_dist.atomic import write_text
from esl_dist.prediction.job import Made, Task
from esl_dist.reporting.pictures import photo, shown_size
from esl_dist.reporting.quality import spread
from esl_dist.reporting.report import environment

SHOWN = 24
"""Frames on the sheet."""

TITLES = {"overlays": "overlay", "labels": "labels", "confidence": "confidence", "entropy": "entropy"}


def write_sheet(task: Task, made: Made) -> Path:
    """Write the page and return its path. It carries its pictures inside, small; each links to the file itself."""
    names = [name for name in task.frames.names if name not in made.unreadable and task.is_whole(name)]
    kinds = [kind for kind in TITLES if kind in task.products.kinds]
    rows = [
        {"name": names[i], "panels": [_panel(task, kind, names[i]) for kind in kinds]}
        for i in spread(len(names), SHOWN)
    ]
    path = task.out / "index.html"
    page = environment("esl_dist.prediction").get_template("predictions.html.j2")
    classes = list(zip(task.products.classes.classes, task.products.classes.palette, strict=True))
    write_text(
        path, page.render(rows=rows, made=made, classes=classes, shown=len(rows), name=task.out.name or "predictions")
    )
    return path


def _panel(task: Task, kind: str, name: str) -> dict[str, Any]:
    path = task.products.path(task.out, kind, name)
    with Image.open(path) as picture:
        size = shown_size(picture.height, picture.width)
        small = picture.convert("RGB").resize(
            size, Image.Resampling.NEAREST if kind == "labels" else Image.Resampling.BILINEAR
        )
    return {"title": TITLES[kind], "uri": photo(np.asarray(small), size), "href": path.relative_to(task.out).as_posix()}
