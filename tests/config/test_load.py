"""Configurations: what is refused, in one line that names the key; what is resolved, and dumped so that it
loads again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from esl_dist.config.load import ConfigError, configs_dir, dump, flat, load_config
from esl_dist.methods import plan

REFUSED = [
    (["optim.lrr=1"], "optim.lrr: unknown option; did you mean optim.lr?"),
    (["lr=3"], "did you mean optim.lr?"),
    (["nu=0.2"], "did you mean pseudo_labels.nu?"),
    (["selftrian.steps=3"], "selftrian.steps: unknown option; did you mean selftrain.steps?"),
    (["data.taget.root=x"], "did you mean data.target.root?"),
    (["steps=3"], "steps: unknown option; did you mean "),
    (["optim.lr=abc"], "optim.lr: 'abc' is not a number"),
    (["optim.lr=-1"], "optim.lr: must be positive"),
    (["run.precision=bf8"], "run.precision: unknown 'bf8'; one of auto, fp32"),
    (["data.source=3"], "data.source: is a section"),
    (["run.stages=[foo]"], "run.stages: unknown stage 'foo'"),
    (["run.stages=[align:sgd]"], "align takes"),
    (["run.stages=[source,source]"], "names a stage twice"),
    (["run.stages=[selftrain]"], "selftrain needs an align, source or initial stage"),
    (["run.stages=[source,selftrain]", "selftrain.init=align"], "selftrain.init: align needs an align stage"),
    (["run.stages=[source,oracle]", "data.target.labelled=false"], "oracle trains on target labels"),
    (["pseudo_labels.nu=1.5"], "pseudo_labels.nu: must be between 0 and 1"),
    (["protocol=papr"], "protocol: unknown 'papr'"),
    (["--lr"], "written section.option=value"),
    (["model.deeplabv2.multi_level=false", "align.self_guidance=true"], "needs two heads"),
]


@pytest.mark.parametrize("words,expected", REFUSED)
def test_refused_in_one_line(words: list[str], expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        plan(load_config("smoke.yaml", words))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../../x", "..", "/tmp/x", "a/../../x", "."])
def test_a_runs_name_stays_below_the_runs(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^run\.name: ") as refused:
        load_config("smoke.yaml", [f"run.name={name}"])
    assert "\n" not in str(refused.value)


def test_nothing_after_the_sign_is_the_empty_text() -> None:
    config = load_config("smoke.yaml", ["eval.split=", "data.prepared="])
    assert (config.eval.split, config.data.prepared) == ("", "")


def test_file_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"did you mean configs/streets\.yaml"):
        load_config("strets.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("run: {name: x\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml:2: not readable as YAML"):
        load_config(str(broken))
    circle = tmp_path / "circle.yaml"
    circle.write_text("base: circle.yaml\n")
    with pytest.raises(ConfigError, match="in a circle"):
        load_config(str(circle))


def test_dump_loads_again_equal(tmp_path: Path) -> None:
    config = load_config("smoke.yaml", ["optim.lr=0.5", "data.target.size=[64,32]"])
    (tmp_path / "config.yaml").write_text(dump(config))
    assert load_config(str(tmp_path / "config.yaml")) == config


def test_command_line_beats_file_beats_base_beats_protocol() -> None:
    assert load_config("smoke.yaml").initial.steps == 6  # file over its base
    assert load_config("smoke.yaml").optim.lr == 0.01  # base over schema
    assert load_config("smoke.yaml", ["optim.lr=0.02"]).optim.lr == 0.02
    code = load_config("smoke.yaml", ["protocol=code"])
    assert (code.optim.updates, code.pseudo_labels.rank, code.pseudo_labels.window) == ("published", "reference", 3000)
    assert load_config("smoke.yaml", ["protocol=code", "pseudo_labels.rank=upper"]).pseudo_labels.rank == "upper"
    assert load_config("smoke.yaml", ["protocol=paper"]).optim.weight_decay == 1e-4


def test_flat_names_every_option() -> None:
    options = flat(load_config("smoke.yaml"), "optim", "data")
    assert options["optim.lr"] == 0.01 and tuple(options["data.source.size"]) == (128, 64)
    assert not any(key.startswith("model.") for key in options)


def test_every_shipped_configuration_loads() -> None:
    runs = [p for p in configs_dir().rglob("*.yaml") if "sweeps" not in p.parts and not p.name.startswith("_")]
    assert runs
    for path in runs:
        load_config(str(path))


def test_a_typo_ends_the_program_with_code_2_and_one_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "esl_dist.train", "optim.lrr=1", f"run.dir={tmp_path}/run"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    assert ended.stderr.strip() == "esl_dist: error: optim.lrr: unknown option; did you mean optim.lr?"
    assert not (tmp_path / "run").exists()
