"""The same files for one, two and three ranks; gone on with after any end; named where a frame cannot be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from esl_dist.entries import cli, predict
from esl_dist.errors import StoppedBySignal
from esl_dist.labels import protocol
from esl_dist.models import DeepLabV2
from esl_dist.prediction import job
from esl_dist.prediction.forward import Whole
from esl_dist.prediction.frames import open_frames
from esl_dist.prediction.products import Products
from esl_dist.prediction.sheet import write_sheet
from tests.prediction.test_parts import brightness
from tests.ranks import run_ranks

HERE = "tests.prediction.test_job"
KINDS = ("labels", "overlays", "confidence", "entropy")
TINY = ["model.layers=[1,1,1,1]", "model.width=8", "eval.input_size=[64,32]", "run.threads=1"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Seven images of different sizes, one of them damaged, one of a single pixel."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, (width, height) in enumerate([(40, 20), (64, 32), (1, 1), (33, 50), (20, 20), (90, 31)]):
        pixels = np.random.RandomState(number).randint(0, 256, (height, width, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "bad.png").write_bytes((folder / "0.png").read_bytes()[:200])
    return folder


def task(images: str, out: str, settings: dict[str, Any] | None = None) -> job.Task:
    products = Products(protocol("19"), KINDS, 0.5)
    forward = Whole(brightness, (32, 16), "stretch", 2, True)
    return job.Task(open_frames(images), forward, products, Path(out), settings or {"alpha": 0.5}, 2)


def on_a_rank(images: str, out: str) -> Any:
    made = job.run(task(images, out))
    return [made.files, made.unreadable]


def files(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*.*g"))}


@pytest.mark.parametrize("world", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_two_and_three_ranks_make_what_one_makes(tmp_path: Path, images: Path, world: int) -> None:
    alone = on_a_rank(str(images), str(tmp_path / "1"))
    assert set(alone[0]) == set(KINDS) and list(alone[1]) == ["bad"]
    for result in run_ranks(world, f"{HERE}:on_a_rank", str(images), str(tmp_path / "n")):
        assert result == json.loads(json.dumps(alone))
    assert files(tmp_path / "n") == files(tmp_path / "1")


def test_a_call_that_was_cut_off_is_gone_on_with(tmp_path: Path, images: Path) -> None:
    whole = on_a_rank(str(images), str(tmp_path / "whole"))
    asked = iter([False, True])
    with pytest.raises(StoppedBySignal):
        job.run(task(str(images), str(tmp_path / "cut")), stop=lambda: next(asked, True))
    before = files(tmp_path / "cut")
    assert 0 < len(before) < len(files(tmp_path / "whole"))
    times = {name: (tmp_path / "cut" / name).stat().st_mtime_ns for name in before}
    assert on_a_rank(str(images), str(tmp_path / "cut")) == whole
    assert {name: (tmp_path / "cut" / name).stat().st_mtime_ns for name in before} == times
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_call_is_gone_on_with(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        Image.fromarray(np.full((200, 300, 3), number % 256, np.uint8)).save(folder / f"{number:03d}.png")
    program = f"import sys; from {HERE} import on_a_rank; on_a_rank(sys.argv[1], sys.argv[2])"
    command = [sys.executable, "-c", program, str(folder), str(tmp_path / "out")]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()})
    end = time.monotonic() + 120
    while len(list((tmp_path / "out").glob("labels/*.png"))) < 20 and time.monotonic() < end:
        time.sleep(0.05)
    child.kill()
    child.wait()
    assert 20 <= len(list((tmp_path / "out").glob("labels/*.png"))) < 300
    assert on_a_rank(str(folder), str(tmp_path / "out")) == on_a_rank(str(folder), str(tmp_path / "whole"))
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_other_settings_do_not_take_the_folder(tmp_path: Path, images: Path) -> None:
    on_a_rank(str(images), str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"was made with alpha=0\.5, now it is 0\.7"):
        job.run(task(str(images), str(tmp_path / "out"), {"alpha": 0.7}))


def test_another_picture_under_a_known_name_is_predicted_anew(
    tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    on_a_rank(str(images), str(out))
    before = files(out)
    Image.fromarray(np.full((20, 40, 3), 250, np.uint8)).save(images / "0.png")
    (out / "ids").mkdir()
    (out / "ids" / "0.png").touch()  # of a call that asked for more kinds
    found = on_a_rank(str(images), str(out))
    assert "1 frames are other pictures than before (the first: 0)" in caplog.text and not list((out / "ids").iterdir())
    changed = {name for name, content in files(out).items() if before[name] != content}
    assert changed == {"labels/0.png", "overlays/0.jpg", "confidence/0.png", "entropy/0.png"}
    assert found == on_a_rank(str(images), str(tmp_path / "anew"))
    # A folder of the same names, and others: nothing of the first passes for the second's.
    elsewhere.mkdir()
    for name in ("0", "1"):
        Image.fromarray(np.full((9, 9, 3), 7, np.uint8)).save(elsewhere / f"{name}.png")
    caplog.clear()
    on_a_rank(str(elsewhere), str(out))
    assert "2 frames are other" in caplog.text and "files of 5 frames that are not among these" in caplog.text
    with Image.open(out / "labels" / "1.png") as label:
        assert label.size == (9, 9)


def test_a_pattern_does_not_mean_what_was_made_of_it(tmp_path: Path, images: Path) -> None:
    out = images / "out"
    for _ in range(2):
        made = job.run(task(str(images / "*[0-9].png"), str(out)))
        assert made.frames == 6
        assert open_frames(str(images / "**" / "*.png"), out).names == open_frames(str(images / "*.png")).names


def test_the_sheet_shows_frames_and_what_was_left_out(tmp_path: Path, images: Path) -> None:
    made = job.run(task(str(images), str(tmp_path / "out")))
    page = write_sheet(task(str(images), str(tmp_path / "out")), made).read_text()
    assert page.count("<img ") == 6 * len(KINDS) and "bad.png" in page and 'href="overlays/0.jpg"' in page
    assert "http" not in page.replace("http-equiv", "")


def entry(words: list[str]) -> int:
    with pytest.raises(SystemExit) as end:
        cli.run(lambda: predict.main(words))
    return int(end.value.code or 0)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(DeepLabV2(19, layers=(1, 1, 1, 1), width=8).state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_the_command(tmp_path: Path, images: Path, weights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((2160, 3840, 3), 90, np.uint8)).save(images / "large.png")
    words = ["--checkpoint", str(weights), "--images", str(images), "--out", str(tmp_path / "out"), *TINY]
    assert entry([*words, "--ids", "--entropy", "--bn", "frames"]) == 1  # a frame could not be read
    said = capfd.readouterr()
    assert "7 of 8 frames" in said.out and "bad.png" in said.err and "Traceback" not in said.err
    with Image.open(tmp_path / "out" / "labels" / "large.png") as large, Image.open(images / "0.png") as small:
        assert large.size == (3840, 2160) and large.mode == "P"
        with Image.open(tmp_path / "out" / "ids" / "0.png") as ids:
            assert ids.size == small.size and set(np.unique(np.array(ids))) <= set(range(34))
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == [
        "entropy",
        "ids",
        "labels",
        "overlays",
    ]
    os.remove(images / "bad.png")
    assert entry([*words, "--ids", "--entropy", "--bn", "frames"]) == 2  # other frames, other statistics
    assert "was made with frames" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--alpha", "1.5"], "--alpha: must be between 0 and 1"),
        (["--batch", "0"], "--batch"),
        (["--size", "8x8", "--window", "8x8"], "give one of them"),
        (["--size", "big"], "--size: 'big'"),
        (["--video"], "is no video"),
        (["--ids", "data.protocol=7"], "--ids"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, images: Path, weights: Path, capfd: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    words = ["--checkpoint", str(weights), "--images", str(images), "--out", str(tmp_path / "out"), *TINY]
    assert entry([*words, *more]) == 2
    error = capfd.readouterr().err
    assert said in error and "Traceback" not in error and not list((tmp_path / "out").glob("labels"))


def test_an_empty_folder_is_refused(tmp_path: Path, weights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    words = ["--checkpoint", str(weights), "--images", str(tmp_path / "none"), "--out", str(tmp_path / "out"), *TINY]
    assert entry(words) == 2 and "no image below it" in capfd.readouterr().err
