"""The colours of lines, as people with each kind of colour blindness see them."""

from __future__ import annotations

import re
from itertools import combinations

import numpy as np
import pytest

from esl_dist.colours import COLOURS
from esl_dist.reporting.report import environment

# Machado, Oliveira and Fernandes, A Physiologically-based Model for Simulation of Color Vision Deficiency (2009),
# severity 1, on linear RGB.
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = TO_XYZ.sum(1)


def linear(colour: str) -> np.ndarray:
    """sRGB ``#rrggbb`` as linear RGB 0-1."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    x, y, z = np.cbrt(np.maximum(TO_XYZ @ np.clip(rgb, 0, 1) / WHITE, 1e-9))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """WCAG's, 1 to 21."""
    low, high = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("sight", SIGHT)
def test_lines_are_told_apart_by_everybody(sight: str) -> None:
    seen = [lab(SIGHT[sight] @ linear(colour)) for colour in COLOURS]
    apart = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in combinations(range(len(seen)), 2)}
    assert min(apart.values()) > 24, min(apart, key=lambda pair: apart[pair])


def test_lines_stand_out_from_the_page_by_day_and_by_night() -> None:
    css = environment().get_template("style.css").render()
    pages = re.findall(r"--page: (#[0-9a-f]+)", css)
    assert len(pages) == 2
    for page in ("#" + 2 * page[1:] if len(page) == 4 else page for page in pages):
        assert min(contrast(colour, page) for colour in COLOURS) > 2.9


def test_two_colours_that_only_some_can_tell_apart_are_found() -> None:
    red, green = linear("#c02418"), linear("#7a6a18")
    far = np.linalg.norm(lab(red) - lab(green))
    near = np.linalg.norm(lab(SIGHT["protanopia"] @ red) - lab(SIGHT["protanopia"] @ green))
    assert far > 40 > 20 > near
