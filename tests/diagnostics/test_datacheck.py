"""The data check on sets with known faults, and its contact sheet."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.config.schema import Config, DataConfig, DomainConfig, EvalConfig, RunConfig, StreetsConfig
from esl_dist.data import open_dataset
from esl_dist.diagnostics import datacheck
from esl_dist.diagnostics.check import Check
from esl_dist.diagnostics.sheet import STRENGTH, contact_sheet, overlay
from esl_dist.labels import protocol
from tests.data import disk

SIZE = (32, 16)


def made(root: Path) -> Config:
    """A GTA5 source and a Cityscapes target without faults."""
    for i in range(4):
        disk.image(root / f"gta5/images/{i:05d}.png", SIZE, i)
        disk.palette(root / f"gta5/labels/{i:05d}.png", disk.ids([7, 7, 23, 34], SIZE))
    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            disk.image(root / f"cs/leftImg8bit/{split}/ulm/ulm_{i}_leftImg8bit.png", SIZE, i)
            disk.grey(root / f"cs/gtFine/{split}/ulm/ulm_{i}_gtFine_labelIds.png", disk.ids(range(34), SIZE))
    source = DomainConfig(dataset="gta5", root="gta5")
    target = DomainConfig(dataset="cityscapes", root="cs", split="train")
    return Config(
        run=RunConfig(dir=str(root / "run")),
        data=DataConfig(root=str(root), source=source, target=target),
        eval=EvalConfig(split="val"),
    )


def by_name(checks: list[Check]) -> dict[str, Check]:
    assert len({c.name for c in checks}) == len(checks)
    return {c.name: c for c in checks}


def test_a_whole_configuration(tmp_path: Path) -> None:
    found = by_name(datacheck.check(made(tmp_path)))
    assert list(found) == [
        "source files",
        "source classes",
        "target files",
        "target classes",
        "scored files",
        "scored classes",
    ]
    assert (
        found["source files"].status == "ok"
        and "4 images with a label each, all read, 32x16" in found["source files"].text
    )
    assert "3 images" in found["target files"].text and "2 images" in found["scored files"].text
    assert found["target classes"].status == "ok"
    # Two pixels of road to one of sky to one licence plate, which is ignored.
    source = found["source classes"]
    assert (
        source.status == "warning"
        and "road 66.7 %, sky 33.3 %; ignored 25.0 % of the pixels" in source.text
        and source.text.startswith("absent: sidewalk, building")
    )
    assert sorted(p.name for p in (tmp_path / "run/data_check").iterdir()) == ["scored.png", "source.png", "target.png"]
    assert str(tmp_path / "run/data_check/source.png") in found["source files"].text


def test_faults_are_counted_and_named(tmp_path: Path) -> None:
    config = made(tmp_path)
    image, label, other, odd = (
        tmp_path / f"gta5/{part}.png" for part in ("images/00000", "labels/00001", "labels/00002", "labels/00003")
    )
    image.write_bytes(image.read_bytes()[:-40])
    disk.palette(label, disk.ids([7], (31, 16)))
    disk.palette(other, disk.ids([7, 77, 99], SIZE))
    disk.palette(odd, disk.ids([7, 99], SIZE))
    found = by_name(datacheck.check(config))
    unreadable, ids = found["source unreadable"], found["source ids"]
    assert unreadable.status == "warning" and unreadable.text.startswith("2 of 4: ")
    assert f"{image} cannot be decoded" in unreadable.text and f"{label} is 31x16 but its image" in unreadable.text
    assert ids.status == "broken" and "77 (in 1 files), 99 (in 2 files)" in ids.text
    strict = dataclasses.replace(config, data=dataclasses.replace(config.data, bad_samples=1))
    broken = by_name(datacheck.check(strict))["source unreadable"]
    assert broken.status == "broken" and "data.bad_samples=1" in broken.advice


def test_a_missing_folder_is_a_finding_not_a_crash(tmp_path: Path) -> None:
    config = made(tmp_path)
    wrong = dataclasses.replace(
        config.data, target=DomainConfig(dataset="cityscapes", root="cs/leftImg8bit", split="train")
    )
    found = by_name(datacheck.check(dataclasses.replace(config, data=wrong)))
    assert found["target files"].status == found["scored files"].status == "broken"
    assert (
        f"did you mean {tmp_path / 'cs/leftImg8bit/train'}" in found["target files"].text
        and "data.target.root" in found["target files"].advice
    )
    assert found["source files"].status == "ok"
    to_make = dataclasses.replace(wrong, streets=StreetsConfig(make=True))
    found = by_name(datacheck.check(dataclasses.replace(config, data=to_make)))
    assert found["target files"].status == "warning" and "esl_dist.streets" in found["target files"].advice


def test_labels_of_another_protocol_are_broken(tmp_path: Path) -> None:
    config = made(tmp_path)
    for i in range(4):
        disk.palette(
            tmp_path / f"gta5/labels/{i:05d}.png", disk.ids([0, 1, 2], SIZE)
        )  # train ids where label ids belong
    found = by_name(datacheck.check(config))["source classes"]
    assert found.status == "broken" and found.text == "every pixel is ignored"


def test_withheld_labels_are_not_missed(tmp_path: Path) -> None:
    config = made(tmp_path)
    data = dataclasses.replace(config.data, target=dataclasses.replace(config.data.target, labelled=False))
    found = by_name(datacheck.check(dataclasses.replace(config, data=data)))
    assert "3 images without labels" in found["target files"].text
    assert not {"target classes", "scored files"} & set(found)


def test_a_large_set_is_sampled_and_says_so(tmp_path: Path) -> None:
    config = made(tmp_path)
    found = by_name(datacheck.check(config, seconds=0.0))
    assert "4 images with a label each, 1 read" in found["source files"].text


def test_overlay() -> None:
    table = protocol("19")
    image = np.full((1, 3, 3), 100, np.uint8)
    found = overlay(image, np.array([[0, 10, 255]], np.uint8), table)
    assert found[0, 2].tolist() == [100, 100, 100]
    for x, train_id in ((0, 0), (1, 10)):
        expected = [round(100 * (1 - STRENGTH) + STRENGTH * c) for c in table.palette[train_id]]
        assert np.abs(found[0, x].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("labelled", [True, False])
def test_contact_sheet(tmp_path: Path, labelled: bool) -> None:
    config = made(tmp_path)
    (tmp_path / "gta5/images/00001.png").write_bytes(b"")
    domain = dataclasses.replace(config.data.source, labelled=labelled)
    data = open_dataset(domain, config.data.root, "19")
    path = tmp_path / "sheets/a.png"
    assert contact_sheet(data, range(4), protocol("19"), path) == 3
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
    with Image.open(path) as sheet:
        assert sheet.mode == "RGB" and sheet.height > 3 * 200
        colours = {colour for _, colour in sheet.getcolors(1 << 24) or []}
    assert ((128, 64, 128) in colours) is labelled  # the legend
    assert contact_sheet(data, [1], protocol("19"), tmp_path / "none.png") == 0 and not (tmp_path / "none.png").exists()
