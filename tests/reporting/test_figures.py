"""What a page draws and saves beside its tables: confusion, predictions, CSV and LaTeX."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from esl_dist import colours
from esl_dist.data import open_dataset
from esl_dist.entries.report import main
from esl_dist.reporting import chart, pictures
from esl_dist.reporting.exports import export
from esl_dist.reporting.grid import write_grid
from esl_dist.reporting.matrix import drawn, percentages
from esl_dist.reporting.record import read_run
from esl_dist.reporting.report import write_report
from esl_dist.runs import RunFolder


def decoded(uri: str) -> bytes:
    return base64.b64decode(uri.partition("base64,")[2])


def test_a_confusion_matrix_tells_shares_of_rows() -> None:
    names = ["road", "<car>"]
    shares = percentages([[3, 1], [0, 0]], names)
    assert shares is not None
    drawing = drawn(shares, names)
    assert "road seen as &lt;car&gt;: 25.0 %" in drawing and drawing.count("<rect") == 4 and ">75</text>" in drawing
    assert percentages([], ["road"]) is None and percentages([[0]], ["road"]) is None


def test_tables_are_saved_with_their_numbers() -> None:
    made = export("scores", ["stage", "mIoU"], [["A & B_1", 41.25], ["none", None]])
    assert decoded(made.csv).decode() == "stage,mIoU\nA & B_1,41.25\nnone,\n"
    assert r"A \& B\_1 & 41.2 \\" in decoded(made.latex).decode() and r"none & -- \\" in decoded(made.latex).decode()


def test_errors_are_red_and_the_rest_is_clear() -> None:
    picture = Image.open(io.BytesIO(decoded(pictures.mask(np.array([[True, False]]))))).convert("RGBA")
    assert picture.getpixel((0, 0))[0] > 200 and picture.getpixel((0, 0))[3] == 255
    assert picture.getpixel((1, 0))[3] == 0


def test_lines_are_told_apart_without_colour() -> None:
    assert len(set(colours.DASHES)) == len(colours.COLOURS) == len(colours.DASHES)
    made = chart.line_chart([chart.Series("a", "var(--ink)", [0, 1], [0, 1], "7 3")])
    assert 'stroke-dasharray="7 3"' in made and "stroke: var(--ink)" in made


def miou(run: Path, stage: str) -> float:
    found: float = json.loads(RunFolder(run).stage(stage).scores("running").path.read_text())["miou"]
    return found


def edit_scores(run: Path, stage: str, key: str, value: Any) -> None:
    path = RunFolder(run).stage(stage).scores("running").path
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))


def test_a_page_shows_what_each_network_says(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    run = run_maker(tmp_path / "run")
    before = write_report(run).read_text()
    assert "What each network says" not in before and "What is taken for what" not in before  # the made run has none
    config = read_run(run).config
    dataset = open_dataset(config.data.target, config.data.root, config.data.classes, config.eval.split)
    for stage in ("source", "align"):
        for name in dataset.names[:2]:
            label = Image.fromarray(np.zeros((64, 128), np.uint8))
            path = RunFolder(run).stage(stage).prediction(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            label.save(path)
    page = write_report(run).read_text()
    assert page.count('<img class="labels"') == 2 * 3  # ground truth and two stages
    assert page.count('<img class="spacer"') == 2 and "% of pixels wrong" in page
    assert "is worst at" not in page
    best = max(("align", "selftrain-esl", "selftrain-ssl"), key=lambda stage: miou(run, stage))
    for number, what in enumerate(("worst", "best")):
        path = RunFolder(run).stage(best).extreme(dataset.names[number])
        path.parent.mkdir(parents=True, exist_ok=True)
        label.save(path)
        edit_scores(run, best, what, [[dataset.names[number], 0.5], ["gone", 0.4]])
    page = write_report(run).read_text()
    title = {"align": "ADVENT", "selftrain-esl": "ESL", "selftrain-ssl": "SSL"}[best]
    assert page.count('<img class="spacer"') == 4 and f"The images that {title} is worst at" in page
    assert page.count('download="summary.csv"') == 1 and page.count('download="iou-running.tex"') == 1


def test_one_image_as_the_stages_see_it(run_maker: Callable[..., Path], tmp_path: Path) -> None:
    run = run_maker(tmp_path / "run")
    with pytest.raises(ValueError, match="no stage has no predictions; those that have: none"):
        write_grid(run, tmp_path / "grid.png")
    config = read_run(run).config
    dataset = open_dataset(config.data.target, config.data.root, config.data.classes, config.eval.split)
    for stage in ("source", "align"):
        path = RunFolder(run).stage(stage).prediction(dataset.names[1])
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dataset.label(1)).save(path)
    assert main([str(run), "--picture", str(tmp_path / "grid.png"), "--stages", "align,source"]) == 0
    picture = Image.open(tmp_path / "grid.png").convert("RGB")
    width, height = picture.size
    assert (width, height) == (3 * 328 + 8, 2 * (160 + 30) + 8)
    truth = np.asarray(picture.crop((336, 8, 656, 168)))
    assert np.array_equal(np.asarray(picture.crop((664, 8, 984, 168))), truth)  # the stage says what is true
    with pytest.raises(ValueError, match="oracle has no predictions; those that have: source, align"):
        write_grid(run, tmp_path / "grid.png", ["oracle"])
    with pytest.raises(ValueError, match="there is no number 3"):
        write_grid(run, tmp_path / "grid.png", number=3)
