"""From a folder that nobody has described to a configuration that trains."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from esl_dist.config.load import load_config
from esl_dist.data import open_dataset
from esl_dist.diagnostics.guess import Group, pattern
from esl_dist.diagnostics.starting import Start, start
from esl_dist.entries import data
from esl_dist.prediction import video
from tests.data import disk, more_sets

IDS = [3, 7, 8, 11, 19, 21, 40, 77, 101, 150, 200, 254]
"""Twelve classes of somebody's own."""


def photograph(path: Path, size: tuple[int, int], seed: int) -> None:
    """Smooth content, so that a JPEG of it stays a photograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)


def label(path: Path, size: tuple[int, int], seed: int) -> None:
    blocks = np.random.default_rng(seed).choice(np.array([*IDS, 255], np.uint8), (6, 8))
    blocks.flat[:12] = IDS
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path)


def somebodys(root: Path, labelled: int = 30, unlabelled: int = 60) -> Path:
    """JPEG photographs with PNG labels of own ids, and frames of two other sizes without labels."""
    for number in range(labelled):
        photograph(root / f"photos/day{number % 2}/IMG_{number:04d}.jpg", (96, 64), number)
        label(root / f"masks/day{number % 2}/IMG_{number:04d}_mask.png", (96, 64), number)
    for number in range(unlabelled):
        photograph(root / f"night/{number:05d}.png", ((128, 72), (64, 64))[number % 2], 1000 + number)
    return root


def started(root: Path, tmp_path: Path) -> Start:
    return start(root, tmp_path / "mine.yaml")


def test_own_ids_and_unlabelled_frames(tmp_path: Path) -> None:
    made = started(somebodys(tmp_path / "yard", 6, 8), tmp_path)
    config = load_config(str(made.config))
    source, target = config.data.source, config.data.target
    assert (source.images, source.labels) == ("photos/*/*.jpg", "masks/*/*_mask.png") and source.size == (96, 64)
    assert target.images == "night/*.png" and not target.labelled and target.fit == "pad" and target.size == (128, 72)
    assert config.eval.split == "" and made.sheet.is_file()
    opened = open_dataset(source, config.data.root, config.data.classes)
    assert opened.names[0] == "day0/IMG_0000" and set(np.unique(opened.label(0))) <= {*range(12), 255}
    assert [entry["ids"] for entry in yaml.safe_load(Path(made.classes).read_text())["classes"]] == [[i] for i in IDS]
    with pytest.raises(ValueError, match=r"mine\.yaml is there already"):
        started(tmp_path / "yard", tmp_path)


def test_images_without_a_label_beside_labelled_ones_are_left_out_by_a_list(tmp_path: Path) -> None:
    root = somebodys(tmp_path / "yard", 6, 0)
    (root / "masks/day0/IMG_0002_mask.png").unlink()
    config = load_config(str(started(root, tmp_path).config))
    source, classes = config.data.source, config.data.classes
    parts = [open_dataset(source, "", classes, split).names for split in ("train", "val")]
    names = {name for part in parts for name in part}
    assert [len(part) for part in parts] == [4, 1] and len(names) == 5 and "day0/IMG_0002" not in names


def test_labels_alone_are_split_and_scored(tmp_path: Path) -> None:
    config = load_config(str(started(somebodys(tmp_path / "yard", 10, 0), tmp_path).config))
    parts = {
        split: open_dataset(config.data.target, "", config.data.classes, split).names for split in ("train", "val")
    }
    assert config.eval.split == "val" and len(parts["train"]) == 8 and len(parts["val"]) == 2
    assert not set(parts["train"]) & set(parts["val"])


def test_colours_become_classes(tmp_path: Path) -> None:
    palette = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0]], np.uint8)
    for number in range(4):
        photograph(tmp_path / f"d/image/{number}.png", (96, 64), number)
        (tmp_path / "d/truth").mkdir(parents=True, exist_ok=True)
        which = np.random.default_rng(number).integers(0, 3, (8, 12)).repeat(8, 0).repeat(8, 1)
        Image.fromarray(palette[which]).save(tmp_path / f"d/truth/{number}.png")
    config = load_config(str(started(tmp_path / "d", tmp_path).config))
    assert config.data.source.encoding == "colours"
    opened = open_dataset(config.data.source, "", config.data.classes, "train")
    assert set(np.unique(opened.label(0))) == {0, 1, 2}


@pytest.mark.parametrize("name", ["acdc", "bdd100k", "foggy_cityscapes"])
def test_published_sets_are_recognised(tmp_path: Path, name: str) -> None:
    more_sets.SETS[name](tmp_path / "d")
    made = started(tmp_path / "d", tmp_path)
    assert made.classes == "19" and f"{name}'s layout, split 'train'" in made.lines[0]
    assert load_config(str(made.config)).data.source.dataset == name


def test_own_ids_in_gta5s_layout_are_not_taken_for_gta5(tmp_path: Path) -> None:
    for number in range(4):
        photograph(tmp_path / f"d/images/{number}.png", (96, 64), number)
        disk.grey(tmp_path / f"d/labels/{number}.png", disk.ids(range(12), (96, 64)))
    config = load_config(str(started(tmp_path / "d", tmp_path).config))
    assert config.data.source.dataset == "folder" and config.data.source.labels == "labels/*.png"


def test_a_video_becomes_a_folder_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2", reason="OpenCV is an extra")
    images = [np.full((48, 64, 3), 4 * number, np.uint8) for number in range(50)]
    video.write(tmp_path / "drive.mp4", images, (64, 48), 10)
    monkeypatch.chdir(tmp_path)
    assert data.main(["drive.mp4", "--every", "0.5"]) == 0
    assert [path.stem for path in sorted(Path("drive_frames").glob("*.png"))] == [f"{i:06d}" for i in range(0, 50, 5)]
    config = load_config("drive_frames.yaml")
    opened = open_dataset(config.data.target, config.data.root, config.data.classes)
    assert len(opened) == 10 and abs(int(opened.image(3).mean()) - 60) < 6
    with pytest.raises(ValueError, match="drive_frames is there already"):
        data.main(["drive.mp4"])
    with pytest.raises(ValueError, match=r"--every: 0\.0 is no time"):
        data.main(["drive.mp4", "--every", "0"])


def test_nothing_to_see_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no picture"):
        started(tmp_path / "empty", tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        started(tmp_path / "nowhere", tmp_path)
    shutil.rmtree(tmp_path / "empty")


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["a"], "a/*_x.png"),
        (["a", "b"], "*/*_x.png"),
        (["d/1/rgb", "d/2/rgb"], "d/*/rgb/*_x.png"),
        (["d", "d/2"], "d/**/*_x.png"),
        ([""], "*_x.png"),
    ],
)
def test_one_pattern_for_some_folders(folders: list[str], expected: str) -> None:
    assert pattern([Group(folder, ("1_x.png", "2_x.png"), "images") for folder in folders]) == expected
