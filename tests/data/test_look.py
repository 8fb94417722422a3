"""A look at labels before anything is learned from them: what they are taken for, and what they are."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from esl_dist.config.schema import DataConfig, DomainConfig
from esl_dist.data import open_dataset
from esl_dist.data.dataset import DataError
from esl_dist.data.look import look
from esl_dist.engine.first_steps import FirstSteps
from tests.data import disk

STREETS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33, 0]


def gta5(root: Path, values: list[int], count: int = 4) -> DataConfig:
    for number in range(count):
        disk.image(root / f"gta5/images/{number:05d}.png", seed=number)
        disk.palette(root / f"gta5/labels/{number:05d}.png", disk.ids(values))
    return DataConfig(root=str(root), source=DomainConfig(dataset="gta5", root="gta5"))


def looked_at(data: DataConfig) -> None:
    look(open_dataset(data.source, data.root, data.classes), data, "source")


def test_genuine_labels_pass(tmp_path: Path) -> None:
    looked_at(gta5(tmp_path, STREETS))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([*range(19), 255], "no id is above 18 but 255: these look like train ids, or ids of your own"),
        ([*range(12)], "set data.source.encoding=cityscapes_train_ids, or use dataset=folder with a class file"),
        ([0, 7, 23, 26, 34], "there are 3 of 19 classes"),
        ([0, 1, 2, 34, 255], r"every pixel is ignored under 19's classes: ids 0, 1, 2, 34, 255; choose another"),
    ],
)
def test_labels_of_another_encoding_stop_a_run(tmp_path: Path, values: list[int], words: str) -> None:
    data = gta5(tmp_path, values)
    with pytest.raises(ValueError, match=words) as raised:
        looked_at(data)
    assert "\n" not in str(raised.value) and "data.source: in 4 of its label files" in str(raised.value)
    if "ignored" in words:
        with pytest.raises(ValueError, match="every pixel is ignored"):
            looked_at(replace(data, insist=True))  # nobody can insist on learning nothing
    else:
        looked_at(replace(data, insist=True))


def test_train_ids_are_read_as_such_where_the_user_says_so(tmp_path: Path) -> None:
    data = gta5(tmp_path, [*range(19), 255])
    data = replace(data, source=replace(data.source, encoding="cityscapes_train_ids"))
    looked_at(data)
    assert set(np.unique(open_dataset(data.source, data.root, "19").label(0))) == {*range(19), 255}


def test_synthia_with_its_channels_swapped_is_void_everywhere(tmp_path: Path) -> None:
    for number in range(3):
        disk.image(tmp_path / f"RGB/{number:07d}.png")
        pixels = np.zeros((8, 16, 3), np.uint16)
        pixels[..., 2] = disk.ids(range(23))
        (tmp_path / "GT/LABELS").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"GT/LABELS/{number:07d}.png").write_bytes(disk.png16(pixels, (0,)))
    data = DataConfig(root=str(tmp_path), classes="16", source=DomainConfig(dataset="synthia"))
    with pytest.raises(ValueError, match=r"every pixel is ignored under 16's classes: ids 0;"):
        looked_at(data)


def test_ids_that_the_set_does_not_have_and_unreadable_files(tmp_path: Path) -> None:
    data = gta5(tmp_path, STREETS)
    for number in range(3):
        (tmp_path / f"gta5/labels/{number:05d}.png").write_bytes(b"")
    looked_at(data)
    disk.palette(tmp_path / "gta5/labels/00003.png", disk.ids([7, 77]))
    with pytest.raises(DataError, match=r"00003\.png holds id 77"):
        looked_at(data)
    (tmp_path / "gta5/labels/00003.png").write_bytes(b"")
    looked_at(data)  # nothing can be read: that is another rule's affair


def test_a_large_set_is_listed_and_looked_at_in_a_second(tmp_path: Path) -> None:
    data = gta5(tmp_path, STREETS, 1)
    for folder in ("images", "labels"):
        for number in range(1, 3000):
            (tmp_path / f"gta5/{folder}/{number:05d}.png").hardlink_to(tmp_path / f"gta5/{folder}/00000.png")
    began = time.perf_counter()
    looked_at(data)
    assert time.perf_counter() - began < 1


def test_first_steps_without_a_labelled_pixel_stop_the_run() -> None:
    void, some = torch.full((1, 2, 2), 255, dtype=torch.uint8), torch.zeros((1, 2, 2), dtype=torch.uint8)
    first = FirstSteps("source", 19, start=5, end=100)
    for step in range(5, 14):
        first.see(step, [void])
    with pytest.raises(ValueError, match="source: not one labelled pixel in its first 10 steps"):
        first.see(14, [void])
    short = FirstSteps("source", 19, start=0, end=2)
    short.see(0, [void, some])
    short.see(1, [void])
    unlabelled = FirstSteps("translate", 19, start=0, end=1)
    unlabelled.see(0, [None])
