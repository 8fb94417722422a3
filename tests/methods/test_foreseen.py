"""What cannot be trained is said before the first step of the first stage, not when its turn comes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from esl_dist.config.load import load_config
from esl_dist.entries import train
from esl_dist.methods import plan

ONE_HEAD = "model.deeplabv2.multi_level=false"
SELFTRAIN = "run.stages=[initial,source,'selftrain:{}']"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run.stages=[initial,align]", "align.init=source"], "align.init: source needs a stage source before it"),
        (["run.stages=[initial,mic]", "teacher.init=source"], "teacher.init: source needs a stage source before it"),
        (["run.stages=[align,selftrain]", "selftrain.init=source"], "selftrain.init: source needs a stage source"),
        ([SELFTRAIN.format("cbst"), "pseudo_labels.share=0.3"], "pseudo_labels.share: another share than one half"),
        ([SELFTRAIN.format("cbst"), "pseudo_labels.scope=global"], "pseudo_labels.scope: cbst is a rule per class"),
        ([SELFTRAIN.format("cbst"), "extract.spool=scores"], "extract.spool: scores hold one class per pixel"),
        (
            [SELFTRAIN.format("margin"), "pseudo_labels.rule=median", "pseudo_labels.confidence=margin"],
            "pseudo_labels.margin: must be at most 1",
        ),
        (
            [SELFTRAIN.format("views"), "pseudo_labels.views_heads=true", ONE_HEAD],
            "pseudo_labels.views_heads: the network has one head",
        ),
        (
            [SELFTRAIN.format("views"), "pseudo_labels.views_teacher=true"],
            "pseudo_labels.views_teacher: source, which makes the labels, trains one network",
        ),
        (["run.stages=[mic]", "teacher.distance.classes=[cra]"], "teacher.distance.classes: 'cra' is not a class"),
        (
            ["run.stages=['mic:esl']", "teacher.select.of=heads", ONE_HEAD],
            "teacher.select.of: heads needs a network with an aux head",
        ),
        (
            ["run.stages=['mic:esl']", "teacher.select.of=heads", "teacher.aux_weight=0"],
            "teacher.select.of: heads judges by an aux head that teacher.aux_weight=0 leaves untrained",
        ),
        (
            ["run.stages=[mic]", "teacher.crop.size=[130,64]"],
            "teacher.crop.size: 130x64 is no part of source images, which are 128x64 (data.source.size)",
        ),
        (
            ["run.stages=[mic]", "teacher.crop.size=[64,48]", "model.hrda=true", ONE_HEAD],
            "teacher.crop.size: model.hrda trains on sides that are multiples of 64, not 64x48",
        ),
        (["run.stages=[vfm_uda_plus]"], "teacher.distil.reference: names no file"),
    ],
)
def test_of_options_the_plan_says_it(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        plan(load_config("smoke.yaml", words))


def test_a_control_needs_nothing_of_a_teacher() -> None:
    words = ["run.stages=['vfm_uda_plus:source']", "data.target.size=[64,64]"]
    assert [node.name for node in plan(load_config("smoke.yaml", words))] == ["vfm_uda_plus-source"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"data.root={tmp_path_factory.mktemp('foreseen') / 'data'}"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run.stages=[initial,teacher]", "teacher.ingredients=['nix:da']"], "teacher.ingredients: cannot import"),
        (
            ["run.stages=[initial,vfm_uda_plus]", "teacher.distil.reference=nix.pth"],
            "teacher.distil.reference: no file nix.pth",
        ),
        (["run.stages=[initial,align]", "align.objective=nix:da"], "align.objective: cannot import 'nix:da'"),
        (["run.stages=[initial,source]", "source.class_weights='1,2'"], "source.class_weights: '1,2' is not one of"),
        (
            ["run.stages=[initial,source]", "source.rare_temperature=1"],
            "source.rare_pixels: no image has more than 3000 pixels of any class; lower it (the most that one has",
        ),
        ([SELFTRAIN.format("esl"), "extract.from_spool=nix"], "extract.from_spool: no folder nix"),
    ],
)
def test_what_lies_on_disk_is_looked_for_before_the_first_step(
    words: list[str], message: str, data: str, tmp_path: Path
) -> None:
    small = ["--config", "configs/smoke.yaml", "tracking.mlflow=false", "run.threads=1", "eval.split="]
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        train.main([*small, data, f"run.dir={tmp_path / 'run'}", *words])
    assert not (tmp_path / "run" / "initial").exists()
