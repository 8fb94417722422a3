"""Pixels of each class in each image: counted, kept, and counted again where labels changed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.config.schema import DomainConfig
from esl_dist.data import census, open_dataset
from esl_dist.data.dataset import EncodingError, FolderDataset


@pytest.fixture
def dataset(tmp_path: Path) -> FolderDataset:
    """Three GTA5 images with 7 (road) in their left part and 11 (building) in the rest."""
    for folder in ("images", "labels"):
        (tmp_path / "gta5" / folder).mkdir(parents=True)
    for number in range(3):
        name = f"{number + 1:05}.png"
        Image.fromarray(np.zeros((4, 10, 3), np.uint8)).save(tmp_path / "gta5/images" / name)
        label = np.full((4, 10), 11, np.uint8)
        label[:, : 2 + number] = 7
        Image.fromarray(label).save(tmp_path / "gta5/labels" / name)
    return open_dataset(DomainConfig(dataset="gta5", root="gta5"), str(tmp_path), "19")


def test_counts_by_train_id(dataset: FolderDataset) -> None:
    rows = dict(census.counted(dataset, [0, 2]))
    assert rows[0][[0, 2]].tolist() == [8, 32] and rows[2][[0, 2]].tolist() == [16, 24] and rows[0].sum() == 40


def test_an_unreadable_image_counts_as_empty_and_a_foreign_encoding_stops(dataset: FolderDataset) -> None:
    assert dataset.label_files is not None
    dataset.label_files[0].write_bytes(b"no picture")
    Image.fromarray(np.full((4, 10), 99, np.uint8)).save(dataset.label_files[1])
    assert not dict(census.counted(dataset, [0]))[0].any()
    with pytest.raises(EncodingError, match="99"):
        dict(census.counted(dataset, [1]))


def test_what_is_kept_is_read_until_a_label_file_changes_or_it_is_damaged(
    dataset: FolderDataset, tmp_path: Path
) -> None:
    counts = np.stack([row for _, row in census.counted(dataset, range(3))])
    file = census.cache_file(dataset, tmp_path / "census")
    assert file is not None and census.read(file, 3) is None
    census.keep(file, counts)
    found = census.read(file, 3)
    assert found is not None and np.array_equal(found, counts)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert census.read(file, 3) is None
    assert dataset.label_files is not None
    os.utime(dataset.label_files[1], ns=(1, 1))
    assert census.cache_file(dataset, tmp_path / "census") != file


def test_a_folder_that_cannot_be_written_to_is_no_error(dataset: FolderDataset, tmp_path: Path) -> None:
    (tmp_path / "census").write_text("a file")
    census.keep(census.cache_file(dataset, tmp_path / "census"), np.zeros((3, 256), np.int64))
