"""Charts and label statistics on numbers small enough to check by hand."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.config.load import load_config
from esl_dist.labels.overlap import PARTS, Overlap
from esl_dist.methods import label_title
from esl_dist.reporting.chart import MOST_POINTS, Series, line_chart
from esl_dist.reporting.quality import compare, spread
from esl_dist.runs import LabelSetFolder


def _points(svg: str) -> list[tuple[float, float]]:
    found = re.search('points="([^"]*)"', svg)
    assert found
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found.group(1).split())]


def test_higher_values_stand_higher_and_later_steps_further_right() -> None:
    points = _points(line_chart([Series("loss", "#123456", [0, 10, 20], [2.0, 1.0, 1.5])]))
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x0 < x1 < x2 and y0 < y2 < y1
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)


def test_chart_leaves_out_what_is_not_finite_and_nothing_draws_nothing() -> None:
    assert len(_points(line_chart([Series("a", "red", [0, 1, 2], [1.0, float("nan"), 2.0])]))) == 2
    assert line_chart([Series("a", "red", [0], [float("inf")])]) == "" and line_chart([]) == ""
    assert "<circle" in line_chart([Series("a", "red", [5], [3.0])])


def test_long_lines_are_averaged_not_cut() -> None:
    count = 10 * MOST_POINTS
    points = _points(line_chart([Series("a", "red", list(range(count)), [float(i % 2) for i in range(count)])]))
    assert len(points) == MOST_POINTS and len({y for _, y in points}) == 1


def test_names_in_a_chart_are_escaped() -> None:
    assert "<b>" not in line_chart([Series("<b>", "red", [0, 1], [1, 2])])


@pytest.mark.parametrize(
    ("count", "most", "expected"), [(3, 4, [0, 1, 2]), (10, 2, [2, 7]), (400, 4, [50, 150, 250, 350])]
)
def test_spread_positions(count: int, most: int, expected: list[int]) -> None:
    assert spread(count, most) == expected


def test_titles_of_label_sets() -> None:
    words = ['run.stages=[source,align,"selftrain:ssl","selftrain:median"]', "selftrain.rounds=2"]
    config = load_config("smoke.yaml", words)
    titles = [label_title(name, config) for name in ("ssl", "ssl-r2", "median", "another-run-s")]
    assert titles == ["SSL", "SSL, round 2", "median only", "another-run-s"]


def test_overlap_by_hand() -> None:
    first = np.array([[0, 1, 255, 255, 2]], dtype=np.uint8)
    second = np.array([[0, 255, 1, 255, 2]], dtype=np.uint8)
    truth = np.array([[0, 0, 1, 1, 255]], dtype=np.uint8)
    overlap = Overlap("ssl", "esl")
    overlap.add(first, second, truth)
    assert [overlap.pixels(part) for part in PARTS] == [2, 1, 1, 1]
    assert overlap.wrong_share("both") == 0 and overlap.wrong_share("first") == 1 and overlap.wrong_share("second") == 0
    assert overlap.share("none") == 0.2 and overlap.wrong_share("none") is None


class _Truth:
    """Two labelled images, at twice the size of their pseudo-labels."""

    names = ("a/x", "a/y")
    labelled = True

    def label(self, i: int) -> np.ndarray:
        small = np.array([[[0, 0, 1, 255]], [[1, 1, 1, 1]]], dtype=np.uint8)[i]
        return small.repeat(2, 0).repeat(2, 1)


def test_wrong_labels_by_hand(tmp_path: Path) -> None:
    labels = {"esl": ([0, 1, 1, 0], [1, 255, 0, 1]), "ssl": ([255, 1, 255, 0], [255, 255, 255, 255])}
    for rule, rows in labels.items():
        for name, row in zip(("a/x", "a/y"), rows, strict=True):
            path = tmp_path / rule / "labels" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.array([row], dtype=np.uint8)).save(path)
    found = compare([LabelSetFolder(tmp_path / name) for name in ("ssl", "esl")], 2, _Truth())  # type: ignore[arg-type]
    esl = found.sets["esl"]
    assert (esl.kept, esl.pixels) == (7, 8)
    assert esl.wrong(0) == 1 / 2  # one right, one of truth 1; the third has no truth
    assert esl.wrong(1) == 1 / 4
    assert esl.wrong() == 2 / 6
    assert found.sets["ssl"].wrong(0) is None and found.sets["ssl"].wrong(1) == 1
    assert found.images == 2 and found.overlap is not None and found.overlap.pixels("second") == 5


def test_smoothed_lines_keep_ends_and_means() -> None:
    values = [float(i % 2) for i in range(33)]
    svg = line_chart([Series("a", "red", list(range(33)), values)], smooth=True)
    faint, smooth = (
        [float(pair.split(",")[1]) for pair in found.split()] for found in re.findall('points="([^"]*)"', svg)
    )
    assert svg.index('class="faint"') < svg.index("<title>") and len(set(faint)) == 2
    assert (faint[0], faint[-1]) == (smooth[0], smooth[-1])
    assert max(smooth[2:-2]) - min(smooth[2:-2]) < 0.3 * (max(faint) - min(faint))
    assert line_chart([Series("a", "red", [0, 1, 2], [1, 2, 3])], smooth=True).count("<polyline") == 1


def test_names_at_the_ends_of_lines_do_not_overlap_and_leave_the_order() -> None:
    count = 10
    svg = line_chart([Series(f"line {i}", "red", [0, 1], [0, 1 + i / 1000]) for i in range(count)], names=True)
    found = re.findall(r'class="end" x="[^"]*" y="([^"]*)">line (\d)<', svg)
    heights = [float(y) for y, _ in found]
    assert len(found) == count and all(b - a > 11 for a, b in pairwise(heights))
    assert [number for _, number in found] == [str(i) for i in reversed(range(count))] and min(heights) > 0
    many = [Series(f"line {i}", "red", [0, 1], [0, 1]) for i in range(30)]
    assert 'class="end"' not in line_chart(many, names=True)
