"""A contact sheet: scenes of both domains beside their labels, to look at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from esl_dist.synthetic.streets.classes import palette
from esl_dist.synthetic.streets.domains import SOURCE, TARGET, Domain
from esl_dist.synthetic.streets.scene import render


def contact_sheet(path: Path, seed: int, size: tuple[int, int], rows: int = 4) -> None:
    """Writes ``rows`` rows of two scenes per domain (source above, target below), each image left of its coloured
    label, twice enlarged.
    """
    colours = palette()

    def pair(domain: Domain, index: int) -> NDArray[np.uint8]:
        scene = render(domain, seed, 0, index, size)
        return np.concatenate([scene.image, colours[scene.label]], 1)

    strips = [
        np.concatenate([pair(domain, 2 * row), pair(domain, 2 * row + 1)], 1)
        for domain in (SOURCE, TARGET)
        for row in range(rows)
    ]
    sheet = Image.fromarray(np.concatenate(strips))
    sheet.resize((sheet.width * 2, sheet.height * 2), Image.Resampling.NEAREST).save(path)
