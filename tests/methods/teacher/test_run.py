"""The teacher methods as stages of a run: crops, rare classes, margins, checkpoints; killed, resumed, with a user's
ingredient and with the teacher as the result.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import esl_dist
from esl_dist.engine import checkpoint
from esl_dist.entries import train
from esl_dist.methods.teacher.moment import Moment
from esl_dist.methods.teacher.student import Student

OPTIONS = [
    "--config",
    "configs/smoke.yaml",
    "data.mirror=0.5",
    "eval.split=",
    "run.threads=1",
    "tracking.mlflow=false",
    "teacher.steps=4",
    "teacher.labels.tau=0.3",
    "teacher.crop.size=[48,48]",
    "teacher.crop.rare_pixels=60",
    "teacher.crop.rare_crop=20",
    "teacher.select.window=6",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"data.root={tmp_path_factory.mktemp('teacher') / 'data'}"


def run(folder: Path, data: str, *words: str) -> int:
    return train.main([*OPTIONS, data, f"run.dir={folder}", *words])


def state(folder: Path) -> dict[str, Any]:
    found, problems = checkpoint.newest_valid(folder / "checkpoints")
    assert found is not None, problems
    return checkpoint.load(found)[0]


def tensors(content: Any, path: str = "") -> dict[str, Tensor]:
    if isinstance(content, Tensor):
        return {path: content}
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return {key: value for name, part in items for key, value in tensors(part, f"{path}/{name}").items()}


@pytest.mark.parametrize(("entry", "result"), [("mic:esl-q", "student"), ("vfm_uda", "teacher")])
def test_a_run_cut_off_goes_on_with_the_same_bits(entry: str, result: str, data: str, tmp_path: Path) -> None:
    name, other = entry.replace(":", "-"), "teacher" if result == "student" else "student"
    words = (f"run.stages=['{entry}']", f"teacher.result={result}")
    assert run(tmp_path / "whole", data, *words) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    stage = tmp_path / "cut" / name
    (stage / "done.json").unlink()
    shutil.rmtree(stage / "checkpoints" / "step_00000004")
    assert run(tmp_path / "cut", data, *words) == 0
    whole, cut = tensors(state(tmp_path / "whole" / name)), tensors(state(stage))
    assert whole.keys() == cut.keys() and any(key.startswith(f"/{other}/") for key in whole)
    assert ("/memory/ring" in whole) == (entry == "mic:esl-q")
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    weights = [key for key in whole if key.startswith("/segmenter/") and key.endswith("weight")]
    assert any(not torch.equal(whole[key], whole[key.replace("segmenter", other)]) for key in weights)


def sure(moment: Moment, student: Student) -> Tensor:
    """As the documentation shows it."""
    said = student.see(moment.target.images, moment, "sure").upsampled.main
    top = torch.softmax(said, dim=1).amax(1)
    return ((1 - top) * moment.weight).sum() / moment.known.pixels


def test_a_users_ingredient_trains_and_the_teacher_can_be_the_result(data: str, tmp_path: Path) -> None:
    """It is what is loaded, and what labels are made with: here where student and teacher agree."""
    words = [
        f"teacher.ingredients=[mix,'{__name__}:sure']",
        "teacher.result=teacher",
        "pseudo_labels.views_teacher=true",
    ]
    words += ["run.stages=[teacher,'selftrain:views']", "selftrain.steps=1", "selftrain.objective=none"]
    words += ["extract.compare=2"]
    assert run(tmp_path, data, *words, "teacher.optim.name=sgd", "teacher.crop.temperature=0") == 0
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if line["event"] == "train" and line["stage"] == "teacher"]
    assert losses and all({"loss/sure", "loss/mix_main", "label/share"} <= line.keys() for line in losses)
    ended = state(tmp_path / "teacher")
    assert "student" in ended and "teacher" not in ended
    assert any(not torch.equal(value, ended["student"][key]) for key, value in ended["segmenter"].items())
    loaded = esl_dist.load(tmp_path / "teacher", device="cpu").network.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in ended["segmenter"].items())
    other = esl_dist.load(tmp_path / "teacher/checkpoints/step_00000004/student.pt", device="cpu").network.state_dict()
    assert all(torch.equal(value, other[key]) for key, value in ended["student"].items())
    judged = json.loads((tmp_path / "pseudo_labels/of-teacher/evidence.json").read_text())["confidences"]["figures"]
    assert {"heads x1", "teacher x1"} <= {figures["views"] for figures in judged}
    made = json.loads((tmp_path / "pseudo_labels" / "views" / "thresholds.json").read_text())
    assert made["fingerprint"]["views"] == "mirror teacher x1" and made["kept"] > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run.stages=[teacher]"], "teacher.ingredients: names none"),
        (["run.stages=['mic:median']"], "run.stages: 'mic:median': mic takes esl, esl-q, source after the colon"),
        (["run.stages=[mic]", "teacher.crop.rare_pixels=99999"], "teacher.crop.rare_pixels: no image has more"),
        (
            ["run.stages=[mic]", "teacher.crop.size=[0,0]", "data.source.size=[160,80]"],
            "teacher.crop.size: source images are 160x80 and target images 128x64",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(words: list[str], message: str, data: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        run(tmp_path, data, *words)
