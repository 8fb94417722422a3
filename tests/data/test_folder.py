"""Anyone's folder: patterns, pairs, splits, ids and colours, and every mistake as one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.config.schema import DomainConfig
from esl_dist.data import DataError, open_dataset
from esl_dist.data.dataset import FolderDataset
from esl_dist.data.patterns import matching
from esl_dist.labels import protocol
from tests.data import disk

CLASSES = """
ignore: [0]
classes:
  - {name: path, ids: [10, 11], colour: [128, 64, 128], kind: stuff}
  - {name: grass, ids: [20], colour: [0, 200, 0]}
  - {name: gate, ids: [30], colour: [200, 0, 0], colours: [[200, 0, 0], [201, 0, 0]], kind: thing}
groups: {ground: [path, grass]}
"""


@pytest.fixture
def classes(tmp_path: Path) -> str:
    (tmp_path / "yard.yaml").write_text(CLASSES)
    return str(tmp_path / "yard.yaml")


def opened(root: Path, classes: str, **options: object) -> FolderDataset:
    return open_dataset(DomainConfig(dataset="folder", root=".", **options), str(root), classes)  # type: ignore[arg-type]


def write(
    root: Path, image: str, label: str = "", values: tuple[int, ...] = (0, 10, 11, 20, 30), seed: int = 0
) -> None:
    disk.image(root / image, seed=seed)
    if label:
        disk.grey(root / label, disk.ids(values))


def test_images_and_labels_by_pattern(tmp_path: Path, classes: str) -> None:
    for number, suffix in enumerate((".jpg", ".png", ".webp", ".bmp", ".tif")):
        write(tmp_path, f"frames/cam{number % 2}/{number:03d}_rgb{suffix}", f"gt/cam{number % 2}/{number:03d}_id.png")
    data = opened(tmp_path, classes, images="frames/**/*_rgb", labels="gt/**/*_id.png")
    assert data.names == ("cam0/000", "cam0/002", "cam0/004", "cam1/001", "cam1/003")
    assert np.array_equal(data.label(0), np.array([255, 0, 0, 1, 2])[np.resize(np.arange(5), (8, 16))])
    assert opened(tmp_path, classes, images="frames/*/*_rgb.{jpg,png}").names == ("cam0/000", "cam1/001")
    assert not opened(tmp_path, classes, images="frames").labelled


def test_pairs_by_stem_where_the_trees_differ(tmp_path: Path, classes: str) -> None:
    for number in range(3):
        write(tmp_path, f"drive{number}/images/f{number}.jpg", f"masks/f{number}.png")
    data = opened(tmp_path, classes, images="drive*/images/*.jpg", labels="masks/*.png")
    assert [file.stem for file in data.label_files or ()] == ["f0", "f1", "f2"]
    (tmp_path / "masks/f1.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 images have no label, 1/f1 first .*labels are called f0, f2"):
        opened(tmp_path, classes, images="drive*/images/*.jpg", labels="masks/*.png")


def test_splits_by_folder_list_and_share(tmp_path: Path, classes: str) -> None:
    for number in range(20):
        write(tmp_path, f"images/{'val' if number % 4 == 0 else 'train'}/{number:02d}.png")
    assert len(opened(tmp_path, classes, images="images/{split}/*.png", split="val")) == 5
    with pytest.raises(ValueError, match="needs a split"):
        opened(tmp_path, classes, images="images/{split}/*.png")
    (tmp_path / "few.txt").write_text("train/03\nval/00.png\n")
    assert opened(tmp_path, classes, split="few").names == ("train/03", "val/00")
    shares = {"shares": "train:0.7,val:0.3", "images": "images/*/*.png"}
    train, val = (opened(tmp_path, classes, split=split, **shares).names for split in ("train", "val"))
    assert len(train) == 14 and len(val) == 6 and not set(train) & set(val) and list(train) == sorted(train)
    with pytest.raises(ValueError, match="split 'test' has none; shares are given to train, val"):
        opened(tmp_path, classes, split="test", **shares)
    for wrong in ("train:0.8,val:0.4", "train=0.8", "train:x", "train:0"):
        with pytest.raises(ValueError, match="shares:"):
            opened(tmp_path, classes, split="train", images="images/*/*.png", shares=wrong)


def test_a_list_of_pairs(tmp_path: Path, classes: str) -> None:
    write(tmp_path, "a b/1.jpg", "c/one.png")
    write(tmp_path, "d/2.jpg", "c/two.png")
    (tmp_path / "pairs.txt").write_text("a b/1.jpg\tc/one.png\nd/2.jpg c/two.png\n")
    data = opened(tmp_path, classes, images="pairs.txt")
    assert data.names == ("a b/1", "d/2") and data.label(1).max() == 255
    for wrong, words in (
        ("../x.png\n", "is an image below"),
        ("d/2.jpg\nd/2.jpg\n", "second time"),
        ("\n", "names no"),
    ):
        (tmp_path / "pairs.txt").write_text(wrong)
        with pytest.raises(ValueError, match=words):
            opened(tmp_path, classes, images="pairs.txt")


def test_ids_that_no_class_has_are_refused_or_ignored(tmp_path: Path, classes: str) -> None:
    write(tmp_path, "images/1.png", "labels/1.png", (10, 99))
    options = {"images": "images/*.png", "labels": "labels/*.png"}
    with pytest.raises(DataError, match=r"labels/1\.png holds id 99"):
        opened(tmp_path, classes, **options).label(0)
    Path(classes).write_text(CLASSES.replace("ignore: [0]", "ignore: rest"))
    assert set(np.unique(opened(tmp_path, classes, **options).label(0))) == {0, 255}


def test_train_ids_and_published_ids(tmp_path: Path, classes: str) -> None:
    options = {"images": "images/*.png", "labels": "labels/*.png"}
    write(tmp_path, "images/1.png", "labels/1.png", (0, 1, 2, 255))
    assert set(np.unique(opened(tmp_path, classes, encoding="train_ids", **options).label(0))) == {0, 1, 2, 255}
    disk.grey(tmp_path / "labels/1.png", disk.ids(range(34)))
    assert len(np.unique(opened(tmp_path, "19", encoding="cityscapes", **options).label(0))) == 20
    with pytest.raises(ValueError, match=r"none of yard's classes is one of this data set's; say which"):
        opened(tmp_path, classes, encoding="cityscapes", **options)
    with pytest.raises(ValueError, match="encoding: 'kitti' is unknown"):
        opened(tmp_path, classes, encoding="kitti", **options)


@pytest.mark.parametrize("as_palette", [False, True])
def test_labels_in_colours(tmp_path: Path, classes: str, as_palette: bool) -> None:
    options = {"images": "images/*.png", "labels": "labels/*.png", "encoding": "colours"}
    disk.image(tmp_path / "images/1.png")
    colours = np.array([[128, 64, 128], [0, 200, 0], [200, 0, 0], [201, 0, 0]], np.uint8)
    which = np.resize(np.arange(4), (8, 16))
    picture = Image.fromarray(colours[which])
    (tmp_path / "labels").mkdir()
    (picture.quantize(16) if as_palette else picture).save(tmp_path / "labels/1.png")
    assert np.array_equal(opened(tmp_path, classes, **options).label(0), np.array([0, 1, 2, 2])[which])
    Image.fromarray((colours + 1)[which]).save(tmp_path / "labels/1.png")
    with pytest.raises(DataError, match=r"holds the colour \[129, 65, 129\].*ignore"):
        opened(tmp_path, classes, **options).label(0)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("../x/*.png", "leaves the root"),
        ("/etc/*.png", "leaves the root"),
        ("pictures/*.png", "no folder .*pictures"),
        ("images/*_x.png", r"no file below .* is called images/\*_x\.png"),
        ("images/*.gif", r"\.gif files are not read here"),
    ],
)
def test_a_wrong_pattern_is_one_line(tmp_path: Path, classes: str, pattern: str, words: str) -> None:
    write(tmp_path, "images/1.png")
    with pytest.raises(ValueError, match=words) as raised:
        opened(tmp_path, classes, images=pattern)
    assert "\n" not in str(raised.value)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    disk.image(tmp_path / "a/1.png")
    disk.image(tmp_path / "a/1.jpg")
    with pytest.raises(ValueError, match="the same name"):
        matching(tmp_path, "a/*", (".png", ".jpg"), "images")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("classes: {}", "classes: must be a list"),
        ("- road", "the file: must hold"),
        ("classes: []", "names 0 classes"),
        ("classes: [{name: a}, {name: a}]", "the name a comes twice"),
        ("classes: [{name: a, ids: [1]}, {name: b}]", "the id 1 comes twice"),
        ("classes: [{name: a, ids: [256]}]", "a.ids: must be ids between 0 and 255"),
        ("classes: [{name: a, colour: [1, 2]}]", "a.colour: must be red, green and blue"),
        ("classes: [{name: a, kind: object}]", "a.kind: is thing or stuff"),
        ("classes: [{name: a, id: 1}]", "unknown key 'id'; known: name, colour"),
        ("classes: [{name: on}]", r"classes\[0\].name: must be a name; put 'true' in quotes"),
        ("classes: [{name: a}]\nignore: [0]", "ignore: id 0 is a's"),
        ("classes: [{name: a}]\ngroups: {g: [b]}", "groups.g: no class 'b'"),
        ("classes: [{name: a}]\nclass: 3", "unknown key 'class'"),
        ("classes: [", "is not readable as YAML"),
        ("\x00", "is not readable as YAML"),
    ],
)
def test_a_wrong_class_file_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=words) as raised:
        protocol(str(tmp_path / "mine.yaml"))
    assert "mine.yaml" in str(raised.value) and "\n" not in str(raised.value)


def test_a_class_file_says_all_of_a_class(classes: str) -> None:
    found = protocol(classes)
    assert found.name == "yard" and found.classes == ("path", "grass", "gate") and found.things == (2,)
    assert found.ids == ((10, 11), (20,), (30,)) and found.groups == (("ground", (0, 1)),)
    assert len(found.sha256) == 64 and found.kinds == ("stuff", "", "thing")
    with pytest.raises(ValueError, match=r"there is no file .*nowhere\.yaml"):
        protocol("nowhere.yaml")
