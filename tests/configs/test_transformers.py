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
from esl_dist.models import sketch_segmenter
from esl_dist.models.dinov2 import TINY, DinoV2
from tests.configs import disks
from tests.data import more_sets
from tests.methods.teacher.test_run import state, tensors

VFM = ("vfm_uda_b", "vfm_uda_l", "vfm_uda_plus_b", "vfm_uda_plus_l")
EVERY = ("daformer", "hrda", "mic", *VFM)
PAIRS = {
    "gta5_cityscapes": EVERY,
    "synthia_cityscapes": EVERY,
    "synthetic_cityscapes": ("vfm_uda_l", "vfm_uda_plus_l"),
    "cityscapes_acdc": EVERY,
    "cityscapes_darkzurich": EVERY,
}
EXPERIMENTS = {
    f"{pair}/{name}": name.removesuffix("_b").removesuffix("_l") for pair, names in PAIRS.items() for name in names
}
"""File to the stage that is the method's."""
ALONE = "gta5_cityscapes/soma"
"""Trained on the source alone: its only row."""
QUICK = ("gta5_cityscapes/daformer", "gta5_cityscapes/vfm_uda_b")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_header_and_rows(name: str) -> None:
    config, stage = load_config(f"{name}.yaml"), EXPERIMENTS[name]
    header = [line[2:] for line in (configs_dir() / f"{name}.yaml").read_text().splitlines() if line.startswith("# ")]
    fields = dict(line.split(": ", 1) for line in header[1:])
    assert header[0].endswith(("on the source alone.", "on the sources alone."))
    assert fields["Command"] == f"python -m esl_dist.train --config configs/{name}.yaml data.root=DATA"
    assert fields["Hours"] == fields["Ours"] == "not yet measured" and re.match(r"\d", fields["GPUs"])
    assert re.match(rf"not stated|mIoU % {stage} \d\d\.\d", fields["Published"])
    assert config.run.name == name.replace("/", "-")
    rows = stages(config)
    assert [row.name for row in rows] == [f"{stage}-source", stage] and [r.role for r in rows] == ["baseline", "method"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_constants_are_the_published_ones(name: str) -> None:
    config = load_config(f"{name}.yaml")
    options = published(EXPERIMENTS[name], config.teacher)
    vfm, large = EXPERIMENTS[name].startswith("vfm_uda"), EXPERIMENTS[name] != "daformer"
    batch = 4 if name.endswith("plus_b") else 2
    assert (config.optim.batch, options.steps, options.average.decay) == (batch, 40_000, 0.999)
    assert options.labels.tau == 0.968
    assert options.crop.size == ((1024, 1024) if large else (512, 512)) and options.crop.largest == 0.75
    assert (options.crop.temperature, options.crop.rare_pixels) == (0.05 if vfm else 0.01, 3000)
    assert options.crop.rare_crop == (6000 if large else 1500)
    update = options.optim
    rate = 1e-6 if name == "gta5_cityscapes/vfm_uda_plus_l" else 5e-6 if vfm else 6e-5
    assert (update.lr, update.head_lr, update.weight_decay, update.warmup) == (rate, 10, 0.01, 1500)
    plus = EXPERIMENTS[name] == "vfm_uda_plus"
    assert (update.layer_decay, config.model.bn) == ((0.9, "sync") if plus else (1.0, "train"))
    assert options.mask.of == ("patches" if vfm and not plus else "pixels")
    adverse = not vfm and name.startswith(("cityscapes_acdc", "cityscapes_darkzurich"))
    margins = "vfm" if vfm else "v1" if not large else "v2"
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
    for name in ("acdc", "darkzurich", "urbansyn"):
        more_sets.SETS[name](folder / name)
    generator = torch.Generator().manual_seed(1)
    reference = DinoV2(TINY, registers=4, grid=5).state_dict()
    torch.save({k: torch.randn(v.shape, generator=generator) * 0.1 for k, v in reference.items()}, folder / "reg4.pth")
    return folder


def shrunk(config: Config, root: Path, run: Path) -> list[str]:
    """Tiny networks from nothing, small images and crops; stages, layouts, classes and everything of the method stay
    the file's own.
    """
    own, window = f"model.{config.model.name}", config.eval.window != (0, 0)
    plus = "vfm_uda_plus" in config.run.stages
    return [
        f"data.root={root}",
        f"run.dir={run}",
        f"{own}.encoder=tiny",
        *(["model.daformer.channels=8"] if config.model.name == "daformer" else []),
        *(["model.dinov2.soma_first=1", "model.dinov2.soma_rank=2"] if config.model.dinov2.soma_rank else []),
        "model.checkpoint=",
        *(["teacher.distil.encoder=tiny", f"teacher.distil.reference={root / 'reg4.pth'}"] if plus else []),
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
    assert ("source_detail" in losses) == config.model.hrda and ("mix_main" in losses) == (name != ALONE)
    assert ("distil_target" in losses) == ("vfm_uda_plus" in config.run.stages)


def test_soma_is_source_only_and_frozen() -> None:
    config = load_config(f"{ALONE}.yaml")
    assert [(row.name, row.role) for row in stages(config)] == [("vfm_uda-source", "baseline")]
    options = published("vfm_uda", config.teacher).optim
    assert (options.lr, options.head_lr, options.weight_decay, options.power, options.warmup) == (5e-5, 2, 0.05, 0.9, 0)
    assert (options.decayed, options.scale_lr, config.optim.batch) == ("no_norms", "none", 4)
    trained = sketch_segmenter(config.model, 19, config.data).describe()
    assert "frozen but for 4,866,048 low-rank parameters (SoMA)" in trained


@pytest.mark.parametrize("name", QUICK)
def test_two_steps(name: str, root: Path, tmp_path: Path) -> None:
    two_steps(name, root, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*(name for name in EXPERIMENTS if name not in QUICK), ALONE])
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
