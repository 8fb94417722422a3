"""The README's pictures, from a finished run of ``configs/streets_teacher.yaml``: ``python docs/pictures.py RUN``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

from esl_dist.config.load import load_config
from esl_dist.data import open_domain
from esl_dist.diagnostics.sheet import contact_sheet
from esl_dist.labels import protocol
from esl_dist.reporting.grid import write_grid
from esl_dist.runs import RunFolder

OUT = Path(__file__).parent / "images"
STAGES = ("source", "align", "selftrain-esl", "daformer")
IMAGE = 1


def pair(run: Path, out: Path) -> None:
    """Two samples of each domain as the doctor's contact sheets show them, source left and target right."""
    config = load_config(str(RunFolder(run).config), [])
    sheets = []
    with tempfile.TemporaryDirectory() as folder:
        for domain in ("source", "target"):
            path = Path(folder) / f"{domain}.png"
            contact_sheet(open_domain(config.data, domain), [0, 1], protocol(config.data.classes), path)
            sheets.append(Image.open(path).convert("RGB"))
    both = Image.new("RGB", (sum(sheet.width for sheet in sheets), max(sheet.height for sheet in sheets)), "white")
    for number, sheet in enumerate(sheets):
        both.paste(sheet, (number * sheets[0].width, 0))
    both.resize((1200, round(both.height * 1200 / both.width)), Image.Resampling.LANCZOS).save(out, quality=82)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    pair(Path(sys.argv[1]), OUT / "pair.webp")
    write_grid(Path(sys.argv[1]), OUT / "networks.png", STAGES, IMAGE)
