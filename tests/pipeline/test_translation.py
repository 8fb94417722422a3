"""Translation in a run: killed while it trains and while it rewrites, on other ranks, and what other stages
read of it.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from esl_dist.config.load import load_config
from esl_dist.data import open_dataset
from esl_dist.entries import translate
from tests.chaos.drill import Drill

OPTIONS = [
    'run.stages=[source,translate,"align+it"]',
    *(f"{stage}.steps=4" for stage in ("source", "align")),
    *(
        "translate.steps=8",
        "translate.load=64",
        "translate.crop=32",
        "translate.blocks=1",
        "translate.width=4",
        "translate.discriminator_width=4",
    ),
    *("translate.history=4", "translate.lr=0.01"),
]


def left(drill: Drill) -> dict[str, Any]:
    """Weights, every step's losses, the rewritten images and what the report shows of them."""
    folder = drill.run_dir / "translate"
    made, look = (json.loads((folder / name).read_text()) for name in ("source.json", "look.json"))
    pictures = {path.name: path.read_bytes() for path in sorted((folder / "pictures").iterdir())}
    return {**drill.outcome(), "files": made["files"], "look": look, "pictures": pictures}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Drill:
    folder = tmp_path_factory.mktemp("translation")
    drill = Drill(folder / "straight", folder / "data", OPTIONS)
    drill.finish()
    return drill


@pytest.mark.parametrize("ranks", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_while_it_trains_and_while_it_rewrites(ranks: int, straight: Drill, tmp_path: Path) -> None:
    if ranks != 2:
        straight = Drill(tmp_path / "straight", straight.data, OPTIONS)
        straight.finish(ranks)
    killed = Drill(tmp_path / "killed", straight.data, OPTIONS)
    images = killed.run_dir / "translate" / "source" / "images"
    moments = (
        lambda: killed.reached(5, "translate"),
        lambda: images.is_dir() and any(images.glob("*.png")),
    )
    for moment in moments:
        killed.kill("all", moment, ranks)
    killed.finish(ranks)
    assert left(killed) == left(straight)


def settings(drill: Drill, *words: str) -> list[str]:
    return ["--config", "tests/chaos/chaos.yaml", f"data.root={drill.data}", *OPTIONS, *words]


def test_one_rank_writes_the_same_images_and_mends_what_is_missing(straight: Drill, tmp_path: Path) -> None:
    words = [
        "--checkpoint",
        str(straight.run_dir / "translate/checkpoints/step_00000008"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert translate.main([*settings(straight), *words]) == 0
    files = json.loads((tmp_path / "out.json").read_text())["files"]
    assert files == json.loads((straight.run_dir / "translate/source.json").read_text())["files"] and len(files) == 8

    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/images").iterdir()}
    gone, cut = sorted(times)[:2]
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:100])
    assert translate.main([*settings(straight), *words]) == 0
    assert json.loads((tmp_path / "out.json").read_text())["files"] == files
    assert {path for path, time in times.items() if path.stat().st_mtime_ns != time} == {gone, cut}

    other = ["--checkpoint", str(straight.run_dir / "translate/checkpoints/step_00000006"), *words[2:]]
    with pytest.raises(ValueError, match=r"out\.json: was made with generator_sha256="):
        translate.main([*settings(straight), *other])


def test_another_stage_reads_them_with_one_option(straight: Drill) -> None:
    config = load_config("tests/chaos/chaos.yaml", [f"data.root={straight.data}", *OPTIONS])
    rewritten = dataclasses.replace(config.data.source, root=str(straight.run_dir / "translate/source"))
    before, after = (open_dataset(domain, config.data.root, "19") for domain in (config.data.source, rewritten))
    assert before.names == after.names
    for index in range(len(before)):
        assert before.size(index) == after.size(index) and np.array_equal(before.label(index), after.label(index))
        assert not np.array_equal(before.image(index), after.image(index))
    used = json.loads((straight.run_dir / "align-it/stage.json").read_text())
    assert (
        used["images"] == "translate"
        and used["weights of images"]
        == json.loads((straight.run_dir / "translate/done.json").read_text())["weights_sha256"]
    )


def test_target_images_in_the_sources_look_keep_their_layout(straight: Drill, tmp_path: Path) -> None:
    checkpoint = straight.run_dir / "translate/checkpoints/step_00000008"
    assert (
        translate.main(
            [
                *settings(straight, "data.target.split=test"),
                "--checkpoint",
                str(checkpoint),
                "--out",
                str(tmp_path / "out"),
                "--domain",
                "target",
            ]
        )
        == 0
    )
    config = load_config(
        "tests/chaos/chaos.yaml",
        [f"data.root={straight.data}", "data.target.split=test", f"data.target.root={tmp_path / 'out'}"],
    )
    assert len(open_dataset(config.data.target, config.data.root, "19")) == 4


def test_sizes_that_are_no_multiple_of_four_survive(straight: Drill, tmp_path: Path) -> None:
    """Native images of any shape: scaled, padded for the network, cut and scaled back."""
    for name, size in (("a", (61, 35)), ("b", (70, 52))):
        for folder, mode in (("images", "RGB"), ("labels", "P")):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            Image.new(mode, size).save(tmp_path / "set" / folder / f"{name}.png")
    words = settings(straight, f"data.source.root={tmp_path / 'set'}")
    assert (
        translate.main(
            [
                *words,
                "--checkpoint",
                str(straight.run_dir / "translate/checkpoints/step_00000008"),
                "--out",
                str(tmp_path / "out"),
            ]
        )
        == 0
    )
    sizes = [Image.open(tmp_path / "out/images" / f"{name}.png").size for name in "ab"]
    assert sizes == [(61, 35), (70, 52)]


def test_a_generator_of_another_size_is_refused(straight: Drill, tmp_path: Path) -> None:
    words = [
        "--checkpoint",
        str(straight.run_dir / "translate/checkpoints/step_00000008"),
        "--out",
        str(tmp_path / "out"),
    ]
    with pytest.raises(ValueError, match=r"to_target\.pt: is no generator of 2 blocks"):
        translate.main([*settings(straight, "translate.blocks=2"), *words])
    with pytest.raises(ValueError, match="--checkpoint: no such file or folder"):
        translate.main([*settings(straight), "--checkpoint", str(tmp_path / "none"), "--out", str(tmp_path / "out")])


def test_the_report_shows_them(straight: Drill) -> None:
    page = (straight.run_dir / "report.html").read_text()
    assert (
        "Images in the other domain’s look" in page
        and page.count("in the source’s look") >= 4
        and "ADVENT + IT" in page
    )
