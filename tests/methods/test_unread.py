"""Options that nothing reads are said, each once, with the reason; and saying so is true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from esl_dist.config import load
from esl_dist.config.load import configs_dir, load_config
from esl_dist.config.teacher import MaskConfig, TeacherConfig, UpdateConfig, published
from esl_dist.engine import checkpoint
from esl_dist.entries import train
from esl_dist.methods.teacher.unread import idle_with
from esl_dist.methods.unread import never_read, sentence, unread
from tests.methods.teacher import made

SHIPPED = [
    path.relative_to(configs_dir()).as_posix()
    for path in sorted(configs_dir().rglob("*.yaml"))
    if path.parent.name != "sweeps" and not path.name.startswith("_")
]


def found(*words: str) -> dict[str, str]:
    return unread(load_config("smoke.yaml", list(words)), [word.partition("=")[0] for word in words])


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_files_set_nothing_in_vain(name: str) -> None:
    assert unread(load_config(name)) == {}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run.stages=[mic]", "teacher.select.keep=0.3"], {"teacher.select.keep": "teacher.select.use=none"}),
        (["run.stages=[mic,'mic:esl']", "teacher.select.keep=0.3"], {}),
        (
            ["run.stages=['mic:esl']", "teacher.labels.tau=0.9", "teacher.select.use=with"],
            {
                "teacher.select.use": "every teacher stage names its own",
                "teacher.labels.tau": "teacher.select.use=replace weighs without q",
            },
        ),
        (
            ["run.stages=[daformer]", "teacher.mask.ratio=0.5", "teacher.distil.weight=1"],
            {
                "teacher.mask.ratio": "no teacher stage has mask among its ingredients",
                "teacher.distil.weight": "no teacher stage has distil among its ingredients",
            },
        ),
        (["run.stages=[daformer,mic]", "teacher.mask.ratio=0.5"], {}),
        (
            ["run.stages=[mic]", "teacher.ingredients=[mix]"],
            {"teacher.ingredients": "the stage teacher alone is made of them; others have theirs"},
        ),
        (
            ["run.stages=[mic]", "teacher.optim.name=sgd", "teacher.optim.lr=1", "optim.lr=0.1"],
            {"teacher.optim.lr": "teacher.optim.name=sgd takes all from optim"},
        ),
        (["run.stages=[mic]", "optim.lr=0.1"], {"optim.lr": "no stage is trained by SGD"}),
        (["run.stages=[initial,mic]", "optim.lr=0.1"], {}),
        (
            ["run.stages=['mic:source']", "teacher.average.decay=0.9", "teacher.looks=vfm"],
            {"teacher.average.decay": "every teacher stage is on the source alone"},
        ),
        (
            ["run.stages=[mic]", "teacher.crop.largest=0.5", "teacher.parity=true"],
            {
                "teacher.parity": "model.hrda=false: there is no detail",
                "teacher.crop.largest": "teacher.crop.size=[0,0] takes whole images",
            },
        ),
        (
            ["run.stages=[source,'selftrain:ssl']", "pseudo_labels.nu=0.2", "pseudo_labels.rule=cbst"],
            {
                "pseudo_labels.rule": "every selftrain stage names its own",
                "pseudo_labels.nu": "no rule here has that bound",
            },
        ),
        (["run.stages=[source,selftrain]", "align.gan=ls"], {"align.gan": "no stage trains a discriminator"}),
        (["run.stages=[source,align,selftrain]", "align.gan=ls"], {}),
        (["run.stages=[source]", "selftrain.steps=7"], {"selftrain.steps": "run.stages has no selftrain"}),
        (["model.dinov2.decoder=pyramid"], {"model.dinov2.decoder": "model.name=deeplabv2"}),
    ],
)
def test_what_nothing_reads_is_named_with_why(words: list[str], expected: dict[str, str]) -> None:
    assert found(*words) == expected


def test_of_a_file_only_what_its_stages_have_is_said() -> None:
    words = ["run.stages=[mic]", "selftrain.steps=7", "align.iw_ratio=0.5", "teacher.select.soft=true"]
    assert unread(load_config("smoke.yaml", words)) == {"teacher.select.soft": "teacher.select.use=none"}


def test_of_a_method_of_ones_own_nothing_is_claimed() -> None:
    assert found("run.stages=['tests.methods.test_method_of_ones_own:Toy']", "optim.lr=0.5") == {}


def test_a_sweep_over_what_some_trial_reads_is_one() -> None:
    configs = [load_config("smoke.yaml", [f"run.stages=[{stage}]"]) for stage in ("mic", "'mic:esl'")]
    assert never_read(configs, "teacher.select.keep") == ""
    assert never_read(configs[:1], "teacher.select.keep") == "teacher.select.use=none"


IDLE = [
    "teacher.select.keep=0.3",
    "teacher.select.by=margin",
    "teacher.select.soft=true",
    "teacher.select.window=3",
    "teacher.distil.weight=9",
    "teacher.distil.encoder=tiny",
    "teacher.detail_weight=0.7",
    "teacher.parity=true",
    "teacher.crop.largest=0.2",
    "teacher.crop.rare_crop=7",
    "teacher.ingredients=[distil]",
    "optim.lr=9",
    "optim.head_lr=2",
    "optim.momentum=0.1",
    "optim.weight_decay=0.5",
    "optim.power=3",
    "optim.decay_steps=1",
    "optim.scale_lr=linear",
    "optim.base_batch=5",
    "optim.warmup=3",
    "optim.discriminator_lr=1",
    "align.gan=ls",
    "align.weight=5",
    "align.iw_ratio=0.9",
    "align.objective=minent",
    "selftrain.steps=9",
    "pseudo_labels.nu=0.7",
    "pseudo_labels.rule=cbst",
    "mmdl.modes=7",
    "model.discriminator_width=16",
    "model.layout=advent",
    "model.dinov2.decoder=pyramid",
    "eval.averaged=probabilities",
    "extract.memory=3",
    "profile.start=3",
    "source.steps=5",
]


def test_what_is_said_to_do_nothing_changes_no_bit(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["run.stages=[mic]", "teacher.steps=3", "teacher.crop.temperature=0", "teacher.optim.warmup=0"]
    small = ["--config", "smoke.yaml", f"data.root={tmp_path / 'data'}", "tracking.mlflow=false", "run.threads=1"]
    said = found(*words, *IDLE)
    assert said.keys() == {word.partition("=")[0] for word in IDLE}
    ended = []
    for name, more in (("plain", []), ("idle", IDLE)):
        folder = tmp_path / name
        assert train.main([*small, "eval.split=", f"run.dir={folder}", *words, *more]) == 0
        newest, _ = checkpoint.newest_valid(folder / "mic" / "checkpoints")
        assert newest is not None
        ended.append(checkpoint.load(newest)[0]["segmenter"])
    assert capfd.readouterr().err.count(sentence(said)) == 1
    assert all(torch.equal(value, ended[1][key]) for key, value in ended[0].items())
    assert load.flat(load_config("smoke.yaml", IDLE)) != load.flat(load_config("smoke.yaml"))


def test_reasons_are_told_once() -> None:
    said = found("run.stages=[mic]", "optim.lr=1", "optim.momentum=0", "mmdl.modes=2")
    assert sentence(said) == (
        "options that do nothing here: mmdl.modes (run.stages has neither align nor selftrain); optim.lr,"
        " optim.momentum (no stage is trained by SGD)"
    )


def test_what_the_network_gives_nothing_to_do_is_said_by_the_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, deep = made.segmenter(), made.two_resolutions()
    options = TeacherConfig(optim=UpdateConfig(layer_decay=0.9), mask=MaskConfig(block=8, of="patches"))
    chosen = published("mic", options)
    assert idle_with(chosen, deep) == []
    (said,) = idle_with(chosen, plain)
    assert said.startswith("teacher.optim.layer_decay does nothing")
    assert idle_with(replace(chosen, optim=UpdateConfig("sgd", layer_decay=0.9)), plain) == []
    monkeypatch.setattr(deep, "patch_grid", lambda height, width: (4, 4), raising=False)
    assert idle_with(chosen, deep) == ["teacher.mask.block does nothing: patches are masked (teacher.mask.of)"]
    assert idle_with(published("daformer", options), deep) == []
