"""``kill -9`` of two ranks that train a network of each transformer family: started again, they end with the same bits,
whatever the network drops and wherever it looks closely; teacher and second networks included.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from esl_dist.models.dinov2 import TINY, DinoV2
from tests.chaos.drill import Drill
from tests.chaos.test_teacher import OPTIONS, tensors


class Family(NamedTuple):
    stage: str
    words: tuple[str, ...]
    marks: tuple[str, ...]
    """Parts of keys that its checkpoints must hold."""


MIT = (
    "model.name=daformer",
    "model.daformer.encoder=tiny",
    "model.daformer.channels=8",
    "model.daformer.drop_path=0.4",
)
LARGE = ("data.source.size=[64,64]", "data.target.size=[64,64]", "teacher.crop.size=[64,64]")  # HRDA's least
VIT = ("model.name=dinov2", "model.dinov2.encoder=tiny", "model.dinov2.drop_path=0.4")
FAMILIES = {
    "daformer": Family("daformer", MIT, ("teacher/decode_head", "segmenter/backbone")),
    "hrda": Family("hrda", (*MIT, *LARGE, "model.hrda=true"), ("attention.fuse_layer", "teacher/")),
    "vfm_uda": Family("vfm_uda", VIT, ("teacher/encoder.mask_token",)),
    "vfm_uda_plus": Family(
        "vfm_uda_plus",
        (*VIT, "model.dinov2.decoder=pyramid", "model.bn=sync", "teacher.distil.encoder=tiny"),
        ("distil/feat_project", "teacher/"),
    ),
    "soma": Family("vfm_uda:source", (*VIT, "model.dinov2.soma_rank=2", "model.dinov2.soma_first=1"), (".residual",)),
}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the frozen model with registers that ``vfm_uda_plus`` looks up to."""
    path: Path = tmp_path_factory.mktemp("reference") / "reg4.pth"
    generator = torch.Generator().manual_seed(1)
    state = DinoV2(TINY, registers=4, grid=5).state_dict()
    torch.save({key: torch.randn(value.shape, generator=generator) * 0.1 for key, value in state.items()}, path)
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("name", "victims"), list(zip(FAMILIES, ("all", "0", "1", "all", "launcher"), strict=True)))
def test_killed_it_ends_with_the_same_bits(
    name: str, victims: str, tmp_path: Path, data: Path, reference: Path
) -> None:
    family = FAMILIES[name]
    words = [*OPTIONS, f"run.stages=['{family.stage}']", *family.words, f"teacher.distil.reference={reference}"]
    straight, killed = Drill(tmp_path / "straight", data, words), Drill(tmp_path / "killed", data, words)
    straight.finish()
    killed.kill(victims, lambda: killed.reached(3))
    killed.finish()
    assert killed.outcome() == straight.outcome()
    stage = family.stage.replace(":", "-")
    ours, theirs = tensors(killed, stage), tensors(straight, stage)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    for mark in family.marks:
        assert any(mark in key for key in ours), mark
