"""Several sets as one: names, order, files, prepared or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from esl_dist.alike import files
from esl_dist.config.load import load_config
from esl_dist.config.schema import Config, DataConfig, DomainConfig, EvalConfig
from esl_dist.data import open_dataset, open_domain
from esl_dist.data.joined import Joined, join, parts_of
from esl_dist.data.loader import inference_batches
from esl_dist.data.look import look_first
from esl_dist.methods import plan
from esl_dist.preparation import prepare
from tests.data import disk, more_sets

STREETS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33, 0]
SIZE = (32, 16)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """GTA5 and UrbanSyn as sources, two conditions of ACDC as targets."""
    for number in range(3):
        disk.image(tmp_path / f"gta5/images/{number:04d}.png", SIZE, number)
        disk.palette(tmp_path / f"gta5/labels/{number:04d}.png", disk.ids(STREETS, SIZE))
    more_sets.urbansyn(tmp_path / "urbansyn", SIZE)
    more_sets.acdc(tmp_path / "acdc", SIZE)
    return DataConfig(
        root=str(tmp_path),
        source=DomainConfig(dataset="gta5", root="gta5", size=SIZE),
        target=DomainConfig(dataset="acdc", root="acdc", split="train", labels="night", size=SIZE),
        also_source=[DomainConfig(dataset="urbansyn", root="urbansyn")],
        also_target=[DomainConfig(dataset="acdc", root="acdc", split="train", labels="fog")],
    )


def test_several_sets_are_one(data: DataConfig) -> None:
    source, target = open_domain(data, "source"), open_domain(data, "target")
    assert list(source.names) == ["gta5/0000", "gta5/0001", "gta5/0002", "urbansyn/0001", "urbansyn/0002"]
    assert [name.partition("/")[0] for name in target.names] == ["acdc-1", "acdc-2"] and len(target) == 2
    parts = [open_dataset(domain, data.root, "19") for domain in (data.source, data.also_source[0])]
    for index, (part, place) in enumerate([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]):
        assert np.array_equal(source.image(index), parts[part].image(place))
        assert np.array_equal(source.label(index), parts[part].label(place))
        assert source.size(index) == SIZE
    assert len(files(source)) == 5 and len(parts_of(source)) == 2 and source.labelled
    look_first(Config(data=data), source, target, None)
    assert join(parts[:1], ["gta5"]) is parts[0] and list(parts_of(parts[0])) == [parts[0]]
    alone = replace(data, also_source=[])
    assert list(open_domain(alone, "source").names) == ["0000", "0001", "0002"]


def test_prepared_or_not_the_same_bytes(data: DataConfig) -> None:
    def images() -> torch.Tensor:
        source = open_domain(data, "source")
        return torch.cat([batch.images for batch in inference_batches(source, range(5), size=SIZE, batch=1)])

    before = images()
    made = prepare(Config(data=data, eval=EvalConfig(split="")), 0, per_file=2)
    assert [found["images"] for found in made] == [3, 2, 1, 1]
    source = open_domain(data, "source")
    assert isinstance(source, Joined) and all(hasattr(part, "wanted") for part in source.parts)
    assert torch.equal(images(), before)


def test_further_sets_come_from_a_file_and_are_not_translated(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("data:\n  also_source:\n    - {dataset: urbansyn, root: u, split: train}\n")
    config = load_config(str(tmp_path / "c.yaml"), ["run.stages=[translate]"])
    assert config.data.also_source[0].dataset == "urbansyn"
    with pytest.raises(ValueError, match=r"data\.also_source: translate rewrites one source set"):
        plan(config)
