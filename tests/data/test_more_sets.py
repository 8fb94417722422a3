"""ACDC, Dark Zurich, Foggy Cityscapes, BDD100K and UrbanSyn in their owners' trees, beside what must be left aside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from esl_dist.config.schema import DomainConfig
from esl_dist.data import open_dataset
from esl_dist.data.dataset import FolderDataset
from esl_dist.labels import id_map
from tests.data import disk, more_sets

Write = Callable[[Path], None]


def opened(root: Path, dataset: str, **options: object) -> FolderDataset:
    return open_dataset(DomainConfig(dataset=dataset, root=".", **options), str(root), "19")  # type: ignore[arg-type]


LABEL_IDS, TRAIN_IDS = disk.ids([*range(34), 255]), disk.ids([*range(19), 255])


@pytest.mark.parametrize(
    ("dataset", "options", "names", "raw"),
    [
        ("acdc", {"split": "train"}, ("fog/GP1/GP1_frame_000001", "night/GP2/GP2_frame_000001"), LABEL_IDS),
        ("acdc", {"split": "train", "labels": "night"}, ("GP2/GP2_frame_000001",), LABEL_IDS),
        ("acdc", {"split": "test"}, ("snow/GP4/GP4_frame_000001",), None),
        ("darkzurich", {"split": "train"}, ("GP1/GP1_frame_000002",), None),
        ("darkzurich", {"split": "val"}, ("GP3/GP3_frame_000003",), LABEL_IDS),
        ("foggy_cityscapes", {"split": "train"}, ("ulm/ulm_000000_000019",), LABEL_IDS),
        ("foggy_cityscapes", {"split": "train", "labels": "0.005"}, ("ulm/ulm_000000_000019",), LABEL_IDS),
        ("bdd100k", {"split": "train"}, ("0a0a0b1a-7c39d841",), TRAIN_IDS),
        ("bdd100k", {"split": "test"}, ("0a0a0b1a-7c39d843",), None),
        ("urbansyn", {}, ("0001", "0002"), disk.ids([*range(20), 255])),
        ("urbansyn", {"split": "train"}, ("0002",), disk.ids([*range(20), 255])),
    ],
)
def test_the_owners_tree(
    tmp_path: Path, dataset: str, options: dict[str, object], names: tuple[str, ...], raw: np.ndarray | None
) -> None:
    more_sets.SETS[dataset](tmp_path)
    data = opened(tmp_path, dataset, **options)
    assert data.names == names and data.labelled is (raw is not None)
    assert data.image(0).shape == (8, 16, 3)
    if raw is not None:
        table = id_map("cityscapes" if raw is LABEL_IDS else "cityscapes_train_ids", "19")
        assert np.array_equal(data.label(0), table[raw])


@pytest.mark.parametrize(
    ("dataset", "options", "words"),
    [
        ("acdc", {"split": "fog"}, "acdc: split 'fog' is unknown"),
        ("acdc", {"split": "train", "labels": "sun"}, "acdc: labels=sun is no condition"),
        ("darkzurich", {"split": ""}, "darkzurich: split '' is unknown"),
        ("foggy_cityscapes", {"split": "train", "labels": "0.1"}, "labels=0.1 is no density"),
        ("bdd100k", {"split": "all"}, "bdd100k: split 'all' is unknown"),
        ("urbansyn", {"split": "val"}, "urbansyn: split 'val' needs a list"),
        ("kitti", {}, "dataset: unknown 'kitti'; one of gta5"),
        ("gta5", {"encoding": "kitti"}, "encoding: 'kitti' is unknown"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, dataset: str, options: dict[str, object], words: str) -> None:
    for write in more_sets.SETS.values():
        write(tmp_path)
    with pytest.raises(ValueError, match=words) as raised:
        opened(tmp_path, dataset, **options)
    assert "\n" not in str(raised.value)


def test_bdd100k_in_its_older_tree_and_below_the_folder_of_its_zip(tmp_path: Path) -> None:
    disk.image(tmp_path / "old/seg/images/val/a.jpg")
    disk.grey(tmp_path / "old/seg/labels/val/a_train_id.png", TRAIN_IDS)
    more_sets.SETS["bdd100k"](tmp_path / "new/bdd100k")
    assert opened(tmp_path / "old", "bdd100k", split="val").labelled
    assert opened(tmp_path / "new", "bdd100k", split="val").labelled
