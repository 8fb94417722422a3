"""What a new user does wrong with predict, export, data, load and train on a folder of their own: one line, exit code 2
or 1, nothing half-written.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import esl_dist
from esl_dist import __main__ as command
from esl_dist.entries import data
from tests.diagnostics.test_starting import somebodys
from tests.prediction.test_python import saved, small

CPU = "run.device=cpu"
TINY = [
    CPU,
    "model.deeplabv2.layers=[1,1,1,1]",
    "model.deeplabv2.width=8",
    "source.steps=1",
    "tracking.mlflow=false",
    "run.stages=[source]",
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of somebody's images with its configuration, a checkpoint, and files that are something else."""
    made = tmp_path_factory.mktemp("door")
    somebodys(made / "yard", 6, 4)
    checkpoint = saved(small("deeplabv2"), made / "stage")
    shutil.move(checkpoint, made / "ckpt")
    (made / "ckpt").rename(made / "step_00000007")
    for name in ("cut", "bad"):
        shutil.copytree(made / "step_00000007", made / name)
    (made / "cut/segmenter.pt").write_bytes((made / "cut/segmenter.pt").read_bytes()[:1000])
    (made / "bad/manifest.json").write_text("{")
    for name in ("empty", "folder.pt2"):
        (made / name).mkdir()
    (made / "file").write_text("text")
    (made / "html.pt").write_text("<html>404</html>")
    (made / "garbage.pt").write_bytes(bytes(range(7, 200)) * 3)
    (made / "fake.mp4").write_bytes(b"nothing")
    (made / "none.txt").write_text("# nothing\n")
    (made / "binary.txt").write_bytes(bytes(range(128, 255)))
    (made / "twice.txt").write_text("yard/night/00000.png\n./yard/night/00000.png\n")
    os.mkfifo(made / "pipe.png")
    before = os.getcwd()
    os.chdir(made)
    try:
        assert data.main(["yard"]) == 0
        yield made
    finally:
        os.chdir(before)


def predict(*more: str, checkpoint: str = "step_00000007", images: str = "yard/night", out: str = "out") -> list[str]:
    return ["predict", "--checkpoint", checkpoint, "--images", images, "--out", out, CPU, *more]


def export(*more: str, checkpoint: str = "step_00000007", out: str = "net.pt2") -> list[str]:
    return ["export", "--checkpoint", checkpoint, "--out", out, *more]


def train(*more: str) -> list[str]:
    return ["train", "--config", "yard.yaml", *TINY, *more]


CASES: list[tuple[list[str], str]] = [
    (predict(checkpoint="nope"), "no such file or folder nope"),
    (predict(checkpoint="empty"), "neither a weights file nor"),
    (predict(checkpoint="cut"), "cut/segmenter.pt: is truncated"),
    (predict(checkpoint="bad"), "bad/manifest.json: is not JSON"),
    (predict(checkpoint="garbage.pt"), "does not say what network it holds"),
    (predict("model.name=deeplabv2", checkpoint="garbage.pt"), "no PyTorch checkpoint"),
    (predict("model.name=deeplabv2", checkpoint="html.pt"), "is a web page"),
    (predict("model.name=deeplabv2", checkpoint="yard/night/00000.png"), "is an image, not weights"),
    (["predict", "--checkpoint"], "--checkpoint: expected one argument"),
    (["predict", "--checkpoint", "step_00000007", "--out", "out"], "required: --images"),
    (predict(images="nope"), "no such folder, list, image or video"),
    (predict(images="empty"), "no image below it"),
    (predict(images="yard/*.xyz"), "matches no image"),
    (predict(images="pipe.png"), "no such folder"),
    (predict(images="fake.mp4"), "is not a video that OpenCV can read"),
    (predict(images="none.txt"), "names no image"),
    (predict(images="binary.txt"), "cannot be read"),
    (predict(images="twice.txt"), "is listed twice"),
    (predict(out="file"), "folder file cannot be written (File exists); set --out"),
    (predict(out="file/x"), "set --out to one that can"),
    (predict(out="yard/night/predicted"), "lies in --images"),
    (predict(out="yard/night"), "lies in --images"),
    (predict("--alpha", "nan"), "--alpha: must be between 0 and 1"),
    (predict("--batch", "-1"), "--batch: must be 1 or more"),
    (predict("--batch", "x"), "--batch: invalid int value"),
    (predict("--size", "0x5"), "--size: must be 16 or more, not 0"),
    (predict("--size", "99999x99999"), "--size: must be at most 65536"),
    (predict("--size", "8x8", "--window", "8x8"), "give one of them"),
    (predict("--precision", "fp8"), "--precision: invalid choice"),
    (predict("--bn", "mine"), "--bn: invalid choice"),
    (predict("--nproc", "0"), "--nproc: '0' is neither"),
    (predict("--video"), "is no video"),
    (predict("eval.batsh=1"), "did you mean eval.batch"),
    (predict("eval.batch=x"), "eval.batch"),
    (predict("evalbatch"), "evalbatch"),
    (predict("model.name=efficientnet"), "the checkpoint says itself"),
    (predict("--config", "smoek.yaml"), "did you mean configs/smoke.yaml"),
    (export(out="net.trt"), "must end with one of .onnx, .pt2"),
    (export(out="net"), "must end with one of"),
    (export(out="file/net.pt2"), "file"),
    (export(out="folder.pt2"), "is a folder; name a file"),
    (export(checkpoint="nope"), "no such file or folder nope"),
    (export(checkpoint="html.pt"), "does not say what network it holds"),
    (export("--nproc", "2"), "export works alone"),
    (["data", "nope"], "nope: no such folder"),
    (["data", "empty"], "empty"),
    (["data", "file"], "file: no such folder"),
    (["data", "fake.mp4"], "is not a video"),
    (["data", "yard"], "is there already; name another file with --out"),
    (["data", "fake.mp4", "--every", "0"], "--every: 0.0 is no time"),
    (["data"], "required: folder"),
    (train("data.source.labels=nothing/*.png"), "labels: no folder"),
    (train("data.source.images=nothing/*.jpg"), "images: no folder"),
    (train("data.source.root=/nonexistent"), "/nonexistent"),
    (train("data.classes=nothing.yaml"), "data.classes: there is no file"),
    (train("data.classes=18"), "unknown classes '18'"),
    (train("model.checkpoint=pretrained/resnet101_imagenet_coco.pth"), "it is AdaptSegNet's initial ResNet-101"),
    (train("data.source.shares=train:0.9,val:0.9"), "above 0 and 1 in all"),
    (train("data.source.encoding=nothing"), "encoding"),
    (train("run.stages=[oracle]"), "data.target.labelled is false"),
    (train("run.stages=[sauce]"), "unknown stage 'sauce'"),
    (train("run.dir=file"), "run folder file cannot be written"),
    (train("data.source.size=[1,1]"), "data.source.size"),
]


@pytest.mark.parametrize(("words", "said"), CASES, ids=[str(number) for number in range(len(CASES))])
def test_it_ends_in_one_line(home: Path, words: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path for path in home.rglob("*") if path.name not in ("log.txt", ".lock")}
    with pytest.raises(SystemExit) as end:
        command.main(words)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("esl_dist: error")]
    assert end.value.code == (1 if said == "out of memory" else 2) and len(lines) == 1 and said in lines[0], lines
    left = {path for path in home.rglob("*") if path.name not in ("log.txt", ".lock")} - before
    assert not [path for path in left if re.search(r"\.(png|jpg|pt2|onnx|pt|tmp.*)$", path.name)], left


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nope", "no such file or folder"),
        ("empty", "neither a weights file nor"),
        ("cut", "is truncated"),
        ("bad", "is not JSON"),
        ("html.pt", "does not say what network it holds"),
    ],
)
def test_load_raises_one_line(home: Path, given: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        esl_dist.load(given)
    assert "\n" not in str(refused.value)
