"""Every mistake with a published tree as one line that says what to change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from esl_dist.data import DataError
from tests.data import disk
from tests.data.test_layouts import Write, camvid, cityscapes, crosscity, gta5, opened, synthia


def test_withheld_labels_are_not_looked_for(tmp_path: Path) -> None:
    camvid(tmp_path)
    shutil.rmtree(tmp_path / "trainannot")
    data = opened(tmp_path, "camvid", "10", split="train", labelled=False)
    assert not data.labelled and data.image(0).shape == (8, 16, 3)
    with pytest.raises(ValueError, match=r"no folder .*trainannot"):
        opened(tmp_path, "camvid", "10", split="train")


FAULTS: dict[str, tuple[Callable[[Path], object], dict[str, object], str]] = {
    "no such root": (
        lambda root: root / "nowhere",
        {},
        r"nowhere.*is the last part of the path that exists|did you mean",
    ),
    "root one level too high": (
        lambda root: root.parent,
        {},
        r"did you mean .*cs/leftImg8bit/train\? Then set root to .*cs$",
    ),
    "root one level too deep": (
        lambda root: root / "leftImg8bit",
        {},
        r"did you mean .*cs/leftImg8bit/train\? Then set root to .*cs$",
    ),
    "root two levels too deep": (
        lambda root: root / "leftImg8bit/train",
        {},
        r"did you mean .*cs/leftImg8bit/train\? Then set root to .*cs$",
    ),
    "unknown split": (
        lambda root: root,
        {"split": "training"},
        r"no folder .*leftImg8bit/training; .*leftImg8bit holds train, val",
    ),
    "no split": (lambda root: root, {"split": ""}, r"split is empty"),
    "no labels folder": (
        lambda root: shutil.rmtree(root / "gtFine") or root,
        {},
        r"no folder .*gtFine/train.*comes in .*gtFine_trainvaltest\.zip of www\.cityscapes",
    ),
    "one label missing": (
        lambda root: (root / "gtFine/train/ulm/ulm_000001_000019_gtFine_labelIds.png").unlink() or root,
        {},
        r"1 of 3 images have no label in .*gtFine/train, ulm/ulm_000001_000019 first",
    ),
    "empty folder": (
        lambda root: [p.unlink() for p in root.rglob("*_leftImg8bit.png")] and root,
        {},
        r"no \*_leftImg8bit\.png or \.jpg image in .*leftImg8bit/train",
    ),
    "unknown label kind": (lambda root: root, {"labels": "polygons"}, r"labels=polygons is unknown"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_folder_is_one_line_with_a_way_out(tmp_path: Path, fault: str) -> None:
    cityscapes(tmp_path / "data/cs")
    (tmp_path / "data/other").mkdir()
    make, options, words = FAULTS[fault]
    root = make(tmp_path / "data/cs")
    with pytest.raises(ValueError, match=words) as raised:
        opened(Path(str(root)), "cityscapes", **{"split": "train", **options})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("00001.png\n00009.png\n", r"list\.txt:2: there is no image for 00009\.png"),
        ("../../etc/passwd\n", r"list\.txt:1: \.\./\.\./etc/passwd leaves the data folder"),
        ("images/../../x.png\n", "leaves the data folder"),
        ("/etc/passwd\n", "there is no image for /etc/passwd"),
        ("00001.png\n00001\n", r"list\.txt:2: 00001 is listed a second time \(first in line 1\)"),
        ("\n# nothing\n", "names no image"),
    ],
)
def test_a_bad_list_is_named_by_line(tmp_path: Path, lines: str, words: str) -> None:
    gta5(tmp_path)
    (tmp_path / "list.txt").write_text(lines)
    with pytest.raises(ValueError, match=words) as raised:
        opened(tmp_path, "gta5", list="list.txt")
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=r"missing\.txt cannot be read"):
        opened(tmp_path, "gta5", list="missing.txt")


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    gta5(tmp_path)
    disk.image(tmp_path / "images/00001.jpg")
    with pytest.raises(ValueError, match="have the same name"):
        opened(tmp_path, "gta5")


def test_files_of_the_system_are_passed_over(tmp_path: Path) -> None:
    gta5(tmp_path)
    (tmp_path / "images/._00001.png").write_bytes(b"")
    (tmp_path / "images/__MACOSX").mkdir()
    disk.image(tmp_path / "images/__MACOSX/00001.png")
    (tmp_path / "images/readme.txt").write_text("hello")
    assert len(opened(tmp_path, "gta5")) == 3


def test_labels_are_paired_by_name_not_by_order(tmp_path: Path) -> None:
    """A label more than there are images shifts every pair that is made by order."""
    gta5(tmp_path)
    disk.palette(tmp_path / "labels/00000.png", disk.ids([7]))
    data = opened(tmp_path, "gta5")
    assert [f.stem for f in data.label_files or ()] == [f.stem for f in data.image_files]


def test_a_label_of_another_size_names_both_files(tmp_path: Path) -> None:
    gta5(tmp_path)
    disk.palette(tmp_path / "labels/00002.png", disk.ids([7], (15, 8)))
    data = opened(tmp_path, "gta5")
    with pytest.raises(DataError, match=r"labels/00002\.png is 15x8 but its image .*images/00002\.png is 16x8"):
        data.label(1)
    data.label(0)


@pytest.mark.parametrize(
    ("dataset", "write", "file", "legal", "illegal", "options"),
    [
        ("gta5", gta5, "labels/00001.png", 34, 35, {}),
        (
            "cityscapes",
            cityscapes,
            "gtFine/train/bonn/bonn_000001_000019_gtFine_labelIds.png",
            33,
            34,
            {"split": "train"},
        ),
        ("camvid", camvid, "trainannot/0001TP_006690.png", 11, 12, {"split": "train", "protocol": "10"}),
        (
            "synthia",
            lambda root: synthia(root, "parsed_LABELS"),
            "parsed_LABELS/0000000.png",
            22,
            23,
            {"protocol": "16"},
        ),
        ("crosscity", crosscity, "Rome/Labels/Test/pano_2_eval.png", 33, 34, {"split": "test", "labels": "Rome"}),
    ],
)
def test_an_id_the_data_set_does_not_have_is_named(
    tmp_path: Path, dataset: str, write: Write, file: str, legal: int, illegal: int, options: dict[str, object]
) -> None:
    write(tmp_path)
    data = opened(tmp_path, dataset, **options)  # type: ignore[arg-type]
    disk.grey(tmp_path / file, disk.ids([0, legal]))
    data.label(0)
    disk.grey(tmp_path / file, disk.ids([0, illegal, 200]))
    with pytest.raises(
        DataError, match=f"{Path(file).name} holds id {illegal}, 200, which this data set does not have"
    ):
        data.label(0)
