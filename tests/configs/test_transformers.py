"""The shipped experiments of transformer networks: published constants, a row on the source alone in each, and two
steps of every stage with tiny networks on data of its own format.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from esl_dist.config.load import configs_dir, load_config
from esl_dist.config.schema import Config
from esl_dist.config.teacher import published
from esl_dist.entries import train
from esl_dist.methods.plan import stages
from tests.configs import disks
from tests.data import more_sets
from tests.methods.teacher.test_run import state, tensors

PAIRS = {
    "gta5_cityscapes": ("daformer", "hrda", "mic", "vfm_uda_b", "vfm_uda_l"),
    "synthia_cityscapes": ("daformer", "hrda", "mic"),
    "cityscapes_acdc": ("daformer", "hrda", "mic"),
    "cityscapes_darkzurich": ("daformer", "hrda"),
}
EXPERIMENTS = {
    f"{pair}/{name}": name.partition("_")[0] if not name.startswith("vfm") else "vfm_uda"
    for pair, names in PAIRS.items()
    for name in names
}
"""File to the stage that is the method's."""
QUICK = ("gta5_cityscapes/daformer", "gta5_cityscapes/vfm_uda_b")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_header_and_rows(name: str) -> None:
    config, stage = load_config(f"{name}.yaml"), EXPERIMENTS[name]
    header = [line[2:] for line in (configs_dir() / f"{name}.yaml").read_text().splitlines() if line.startswith("# ")]
    fields = dict(line.split(": ", 1) for line in header[1:])
    assert header[0].endswith("beside the same network on the source alone.")
    assert fields["Command"] == f"python -m esl_dist.train --config configs/{name}.yaml data.root=DATA"
    assert fields["Hours"] == fields["Ours"] == "not yet measured" and re.match(r"\d", fields["GPUs"])
    assert re.match(rf"mIoU % {stage} \d\d\.\d", fields["Published"])
    assert config.run.name == name.replace("/", "-")
    rows = stages(config)
    assert [row.name for row in rows] == [f"{stage}-source", stage] and [r.role for r in rows] == ["baseline", "method"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_constants_are_the_published_ones(name: str) -> None:
    config = load_config(f"{name}.yaml")
    options = published(EXPERIMENTS[name], config.teacher)
    vfm, large = EXPERIMENTS[name] == "vfm_uda", EXPERIMENTS[name] != "daformer"
    assert (config.optim.batch, options.steps, options.average.decay, options.labels.tau) == (2, 40_000, 0.999, 0.968)
    assert options.crop.size == ((1024, 1024) if large else (512, 512)) and options.crop.largest == 0.75
    assert (options.crop.temperature, options.crop.rare_pixels) == (0.05 if vfm else 0.01, 3000)
    assert options.crop.rare_crop == (6000 if large else 1500)
    update = options.optim
    assert (update.lr, update.head_lr, update.weight_decay, update.warmup) == (5e-6 if vfm else 6e-5, 10, 0.01, 1500)
    adverse = name.startswith(("cityscapes_acdc", "cityscapes_darkzurich"))
    margins = {"daformer": "v1", "vfm_uda": "vfm"}.get(EXPERIMENTS[name], "v2")
    assert options.labels.margins == ("none" if adverse else margins)
    assert (config.model.name, config.model.hrda) == ("dinov2" if vfm else "daformer", large and not vfm)
    assert config.eval.window == ((1024, 1024) if large else (0, 0))
    assert config.eval.averaged == ("probabilities" if vfm else "logits") and config.data.mirror == 0.5
    if EXPERIMENTS[name] == "mic":
        assert (options.mask.images, options.mask.looks) == (("both", False) if adverse else ("target", True))
    assert config.model.checkpoint and "initial" not in config.run.stages


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("transformers")
    for name in ("gta5", "synthia", "cityscapes"):
        disks.SETS[name](folder / name)
    for name in ("acdc", "darkzurich"):
        more_sets.SETS[name](folder / name)
    return folder


def shrunk(config: Config, root: Path, run: Path) -> list[str]:
    """Tiny networks from nothing, small images and crops; stages, layouts, classes and everything of the method stay
    the file's own.
    """
    own, window = f"model.{config.model.name}", config.eval.window != (0, 0)
    return [
        f"data.root={root}",
        f"run.dir={run}",
        f"{own}.encoder=tiny",
        *(["model.daformer.channels=8"] if config.model.name == "daformer" else []),
        "model.checkpoint=",
        "teacher.steps=2",
        "teacher.crop.size=[64,64]",
        "teacher.crop.rare_pixels=20",
        "teacher.crop.rare_crop=5",
        "data.source.size=[128,72]",
        "data.target.size=[128,64]",
        "data.workers=0",
        "eval.input_size=[128,64]",
        *(["eval.window=[64,64]", "eval.stride=[32,32]"] if window else []),
        "run.threads=1",
        "run.device=cpu",
        "tracking.mlflow=false",
    ]


def two_steps(name: str, root: Path, run: Path) -> None:
    words = shrunk(load_config(f"{name}.yaml"), root, run)
    assert train.main(["--config", f"{name}.yaml", *words]) == 0
    config = load_config(f"{name}.yaml", words)
    for stage in stages(config):
        assert json.loads((run / stage.name / "done.json").read_text())["step"] == 2
        metrics = json.loads((run / stage.name / "metrics-running.json").read_text())
        assert metrics["classes"] == f"{len(metrics['iou'])}-class network" and metrics["at"] == "native"
    losses = (run / "metrics.jsonl").read_text()
    assert ("source_detail" in losses) == config.model.hrda and "mix_main" in losses


@pytest.mark.parametrize("name", QUICK)
def test_two_steps(name: str, root: Path, tmp_path: Path) -> None:
    two_steps(name, root, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in QUICK])
def test_two_steps_of_every_other_file(name: str, root: Path, tmp_path: Path) -> None:
    two_steps(name, root, tmp_path)


def test_a_run_cut_off_goes_on_with_the_same_bits(root: Path, tmp_path: Path) -> None:
    """HRDA's two resolutions, dropout and stochastic depth among what is drawn; student and teacher compared."""
    words = ["model.daformer.drop_path=0.5", "checkpoint.every=1", "run.stages=[hrda]", "eval.split="]
    words = [*shrunk(load_config("gta5_cityscapes/hrda.yaml"), root, tmp_path / "whole"), *words, "teacher.steps=3"]
    command = ["--config", "gta5_cityscapes/hrda.yaml", *words]
    assert train.main(command) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    stage = tmp_path / "cut" / "hrda"
    (stage / "done.json").unlink()
    for step in sorted((stage / "checkpoints").iterdir()):
        if step.name > "step_00000002":
            shutil.rmtree(step)
    assert any((stage / "checkpoints").iterdir())
    assert train.main([*command, f"run.dir={tmp_path / 'cut'}"]) == 0
    whole, cut = tensors(state(tmp_path / "whole" / "hrda")), tensors(state(stage))
    assert whole.keys() == cut.keys() and all(torch.equal(whole[key], cut[key]) for key in whole)
    assert any("attention.fuse_layer" in key for key in whole) and any(key.startswith("/teacher/") for key in whole)
