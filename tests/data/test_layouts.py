"""Every data set in its owner's tree and encoding, and every mistake of a user as one line that says what to change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.config.schema import DomainConfig
from esl_dist.data import DataError, open_dataset
from esl_dist.data.dataset import FolderDataset
from esl_dist.labels import id_map, vistas
from tests.data import disk

Write = Callable[[Path], None]


def gta5(root: Path, names: tuple[str, ...] = ("00001", "00002", "00003")) -> None:
    for seed, name in enumerate(names):
        disk.image(root / f"images/{name}.png", seed=seed)
        disk.palette(root / f"labels/{name}.png", disk.ids([*range(35), 255][seed:], (16, 8)))


def cityscapes(root: Path, kind: str = "labelIds") -> None:
    for seed, (split, city, frame) in enumerate(
        [
            ("train", "ulm", "000001"),
            ("train", "bonn", "000002"),
            ("train", "bonn", "000001"),
            ("val", "jena", "000009"),
        ]
    ):
        stem = f"{city}_{frame}_000019"
        disk.image(root / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png", seed=seed)
        ids = disk.ids([*range(34), 255] if kind == "labelIds" else [*range(19), 255])
        disk.grey(root / f"gtFine/{split}/{city}/{stem}_gtFine_{kind}.png", ids)
        disk.grey(root / f"gtFine/{split}/{city}/{stem}_gtFine_instanceIds.png", ids)
        disk.image(root / f"gtFine/{split}/{city}/{stem}_gtFine_color.png")


def camvid(root: Path, suffix: str = ".png") -> None:
    for split, frames in (("train", ("0001TP_006690", "0001TP_006720")), ("test", ("Seq05VD_f00000",))):
        for seed, frame in enumerate(frames):
            disk.image(root / f"{split}/{frame}{suffix}", seed=seed)
            disk.grey(root / f"{split}annot/{frame}.png", disk.ids(range(12)))
        lines = [f"/SegNet/CamVid/{split}/{f}.png /SegNet/CamVid/{split}annot/{f}.png" for f in frames]
        (root / f"{split}.txt").write_text("\n".join(lines) + "\n")


def synthia(root: Path, folder: str = "GT/LABELS") -> None:
    for number in range(2):
        disk.image(root / f"RGB/{number:07d}.png", seed=number)
        if folder == "GT/LABELS":
            disk.synthia_label(root / folder / f"{number:07d}.png", disk.ids(range(23)))
        else:
            disk.grey(root / folder / f"{number:07d}.png", disk.ids(range(23)))


def mapillary(root: Path, version: str = "v1.2") -> None:
    names = vistas.NAMES_V1 if version == "v1.2" else vistas.NAMES_V2
    labels = "labels" if version == "v1.2" else "v2.0/labels"
    config = "config.json" if version == "v1.2" else "config_v2.0.json"
    root.mkdir(parents=True, exist_ok=True)
    entries = [
        {"name": name.lower().replace(" ", "-"), "readable": name, "color": [0, 0, 0], "evaluate": True}
        for name in names
    ]
    (root / config).write_text(json.dumps({"labels": entries, "version": version, "mapping": "public"}))
    for part, sizes in (("training", [(16, 8), (12, 20)]), ("validation", [(15, 9)])):
        for seed, size in enumerate(sizes):
            disk.image(root / f"{part}/images/pic{seed}.jpg", size, seed)
            disk.palette(root / f"{part}/{labels}/pic{seed}.png", disk.ids(range(len(names)), size))


def crosscity(root: Path) -> None:
    for city in ("Rome", "Taipei"):
        disk.image(root / f"{city}/Images/Train/pano_1.jpg")
        disk.image(root / f"{city}/Images/Test/pano_2.png")
        disk.grey(root / f"{city}/Labels/Test/pano_2_eval.png", disk.ids([*range(34), 255]))


def opened(root: Path, dataset: str, protocol: str = "19", **options: object) -> FolderDataset:
    return open_dataset(DomainConfig(dataset=dataset, root=".", **options), str(root), protocol)  # type: ignore[arg-type]


def check(data: FolderDataset, raw: np.ndarray, expected_map: np.ndarray, index: int = 0) -> None:
    """Image and label are what was written, the label mapped id by id."""
    label, picture = data.label(index), data.image(index)
    assert label.dtype == picture.dtype == np.uint8
    assert picture.shape == (*label.shape, 3) and data.size(index) == (label.shape[1], label.shape[0])
    assert np.array_equal(label, expected_map[raw])
    with Image.open(data.image_files[index]) as stored:
        assert np.array_equal(picture, np.array(stored))


def test_gta5(tmp_path: Path) -> None:
    gta5(tmp_path)
    data = opened(tmp_path, "gta5")
    assert data.names == ("00001", "00002", "00003") and data.labelled and len(data) == 3
    check(data, disk.ids([*range(35), 255]), id_map("gta5", "19"))


def test_gta5_in_part_folders_and_by_list(tmp_path: Path) -> None:
    gta5(tmp_path, ("01/00001", "01/00002", "02/02500"))
    assert opened(tmp_path, "gta5").names == ("01/00001", "01/00002", "02/02500")
    (tmp_path / "train.txt").write_text("# MaxSquare's half\nimages/02/02500.png\n01/00001.png\n\n")
    assert opened(tmp_path, "gta5", split="train").names == ("02/02500", "01/00001")
    assert opened(tmp_path, "gta5", list="train.txt").names == ("02/02500", "01/00001")
    assert opened(tmp_path, "gta5", list=str(tmp_path / "train.txt")).names == ("02/02500", "01/00001")
    with pytest.raises(ValueError, match=r"gta5: split 'val' needs a list .*val\.txt"):
        opened(tmp_path, "gta5", split="val")


def test_maxsquares_lists(tmp_path: Path) -> None:
    """Numbers for GTA5's frames, Cityscapes' names without their city, where one image alone is meant."""
    gta5(tmp_path / "gta", ("00001", "00002", "02500"))
    (tmp_path / "gta/list.txt").write_text("2500\n1\n00002.png\n")
    assert opened(tmp_path / "gta", "gta5", list="list.txt").names == ("02500", "00001", "00002")
    cityscapes(tmp_path / "cs")
    (tmp_path / "cs/list.txt").write_text("ulm_000001_000019\nbonn_000002_000019_leftImg8bit.png\n")
    data = opened(tmp_path / "cs", "cityscapes", split="train", list="list.txt")
    assert data.names == ("ulm/ulm_000001_000019", "bonn/bonn_000002_000019")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("1", r"list\.txt:1: 1 may be 01/00001 or 02/00001; write which"),
        ("00001.png", r"00001\.png may be 01/00001 or 02/00001"),
        ("9", "there is no image for 9"),
        ("03/00001", "there is no image for 03/00001"),  # a folder that is written must be there
        ("1" * 5000, "there is no image for"),
    ],
)
def test_a_short_name_must_mean_one_image(tmp_path: Path, line: str, words: str) -> None:
    gta5(tmp_path, ("01/00001", "02/00001", "02/00002"))
    (tmp_path / "list.txt").write_text(f"{line}\n")
    with pytest.raises(ValueError, match=words):
        opened(tmp_path, "gta5", list="list.txt")
    (tmp_path / "list.txt").write_text("2\n01/00001\n")
    assert opened(tmp_path, "gta5", list="list.txt").names == ("02/00002", "01/00001")


def test_cityscapes(tmp_path: Path) -> None:
    cityscapes(tmp_path)
    data = opened(tmp_path, "cityscapes", split="train")
    assert data.names == ("bonn/bonn_000001_000019", "bonn/bonn_000002_000019", "ulm/ulm_000001_000019")
    check(data, disk.ids([*range(34), 255]), id_map("cityscapes", "19"))
    (tmp_path / "two.txt").write_text(
        "ulm/ulm_000001_000019_leftImg8bit.png\nleftImg8bit/train/bonn/bonn_000002_000019_leftImg8bit.png\n"
    )
    domain = DomainConfig(dataset="cityscapes", root=".", split="train", list="two.txt")
    assert open_dataset(domain, str(tmp_path), "19").names == ("ulm/ulm_000001_000019", "bonn/bonn_000002_000019")
    assert open_dataset(domain, str(tmp_path), "19", split="val").names == ("jena/jena_000009_000019",)


def test_cityscapes_train_ids(tmp_path: Path) -> None:
    cityscapes(tmp_path, "labelTrainIds")
    data = opened(tmp_path, "cityscapes", "16", split="train", labels="labelTrainIds")
    check(data, disk.ids([*range(19), 255]), id_map("cityscapes_train_ids", "16"))


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_camvid(tmp_path: Path, suffix: str) -> None:
    camvid(tmp_path, suffix)
    data = opened(tmp_path, "camvid", "10", split="train")
    assert data.names == ("0001TP_006690", "0001TP_006720")
    check(data, disk.ids(range(12)), id_map("camvid", "10"))
    (tmp_path / "train.txt").unlink()
    assert len(opened(tmp_path, "camvid", "10", split="train")) == 2
    with pytest.raises(ValueError, match=r"CamVid's 11 classes do not tell 19's apart.*classes=10"):
        opened(tmp_path, "camvid", "19", split="train")


@pytest.mark.parametrize("folder", ["GT/LABELS", "GT/CLASSES", "parsed_LABELS", "synthia_mapped_to_cityscapes"])
def test_synthia(tmp_path: Path, folder: str) -> None:
    synthia(tmp_path, folder)
    data = opened(tmp_path, "synthia", "16")
    assert data.names == ("0000000", "0000001")
    check(data, disk.ids(range(23)), id_map("synthia", "16"))


def test_synthia_with_several_label_folders_asks_which(tmp_path: Path) -> None:
    synthia(tmp_path)
    synthia(tmp_path, "parsed_LABELS")
    with pytest.raises(ValueError, match=r"several label folders .*choose one with labels=GT/LABELS"):
        opened(tmp_path, "synthia", "16")
    assert opened(tmp_path, "synthia", "16", labels="parsed_LABELS").label(0).shape == (8, 16)
    with pytest.raises(ValueError, match="labels=GT/COLOR is unknown"):
        opened(tmp_path, "synthia", "16", labels="GT/COLOR")


@pytest.mark.parametrize(
    ("encoding", "dataset", "stored"),
    [("label_ids", "cityscapes", [*range(34), 255]), ("train_ids", "cityscapes_train_ids", [*range(19), 255])],
)
def test_synthia_converted_to_cityscapes_ids_is_not_taken_for_synthias_own(
    tmp_path: Path, encoding: str, dataset: str, stored: list[int]
) -> None:
    disk.image(tmp_path / "RGB/0000000.png")
    disk.grey(tmp_path / "synthia_mapped_to_cityscapes/0000000.png", disk.ids(stored))
    with pytest.raises(DataError, match=r"0000000\.png holds id .*255.*another encoding"):
        opened(tmp_path, "synthia", "16").label(0)
    data = opened(tmp_path, "synthia", "16", labels=f"synthia_mapped_to_cityscapes:{encoding}")
    check(data, disk.ids(stored), id_map(dataset, "16"))


@pytest.mark.parametrize(("version", "dataset"), [("v1.2", "mapillary"), ("v2.0", "mapillary_v2")])
def test_mapillary(tmp_path: Path, version: str, dataset: str) -> None:
    mapillary(tmp_path, version)
    data = opened(tmp_path, "mapillary", "7", split="training")
    count = 66 if version == "v1.2" else 124
    assert [data.size(i) for i in range(2)] == [(16, 8), (12, 20)]
    check(data, disk.ids(range(count)), id_map(dataset, "7"))
    check(data, disk.ids(range(count), (12, 20)), id_map(dataset, "7"), index=1)
    assert len(opened(tmp_path, "mapillary", "7", split="val")) == 1
    disk.palette(data.label_files[0], disk.ids([count]))  # type: ignore[index]
    with pytest.raises(DataError, match=f"holds id {count}"):
        data.label(0)


def test_mapillary_follows_the_names_of_its_own_configuration(tmp_path: Path) -> None:
    """Dotted names are understood, and the order is the file's, not this package's."""
    mapillary(tmp_path)
    dotted = ["nature--sky", "construction--flat--road", "Trash Can"]
    (tmp_path / "config.json").write_text(json.dumps({"labels": [{"name": name} for name in dotted]}))
    for seed, size in enumerate([(16, 8), (12, 20)]):
        disk.palette(tmp_path / f"training/labels/pic{seed}.png", disk.ids(range(3), size))
    assert sorted(set(opened(tmp_path, "mapillary", "7", split="train").label(0).flat)) == [0, 4, 255]
    (tmp_path / "config.json").write_text(json.dumps({"labels": [{"name": "flying-car"}]}))
    with pytest.raises(ValueError, match="'flying-car'"):
        opened(tmp_path, "mapillary", "7", split="train")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config\.json has no readable list"):
        opened(tmp_path, "mapillary", "7", split="train")
    (tmp_path / "config.json").unlink()
    with pytest.raises(ValueError, match=r"none of config\.json"):
        opened(tmp_path, "mapillary", "7", split="train")
    assert not opened(tmp_path, "mapillary", "7", split="train", labelled=False).labelled


def test_mapillary_with_both_versions_takes_the_one_asked_for(tmp_path: Path) -> None:
    mapillary(tmp_path)
    mapillary(tmp_path, "v2.0")
    assert int(opened(tmp_path, "mapillary", "7", split="train").raw_label(0).max()) == 65
    assert int(opened(tmp_path, "mapillary", "7", split="train", labels="v2.0").raw_label(0).max()) == 123
    with pytest.raises(ValueError, match=r"labels=v3 is unknown"):
        opened(tmp_path, "mapillary", "7", split="train", labels="v3")


def test_crosscity(tmp_path: Path) -> None:
    crosscity(tmp_path)
    data = opened(tmp_path, "crosscity", "crosscity13", split="test", labels="Rome")
    assert data.names == ("pano_2",)
    check(data, disk.ids([*range(34), 255]), id_map("crosscity", "crosscity13"))
    train = opened(tmp_path, "crosscity", "crosscity13", split="train", labels="Taipei")
    assert train.names == ("pano_1",) and not train.labelled
    inside = open_dataset(DomainConfig(dataset="crosscity", root="Rome", split="test"), str(tmp_path), "crosscity13")
    assert inside.labelled
    with pytest.raises(ValueError, match="is no city folder"):
        opened(tmp_path, "crosscity", "crosscity13", split="test", labels="../Rome")


@pytest.mark.parametrize(("split", "count", "labelled"), [("source", 204, True), ("target", 249, False)])
def test_real_camvid_frames(split: str, count: int, labelled: bool) -> None:
    root = Path(__file__).resolve().parents[3] / "shared/data/camvid_day_to_dusk"
    if not root.is_dir():
        pytest.skip("the real CamVid frames are not on this machine")
    data = opened(root, "camvid", "10", split=split, labelled=labelled)
    assert len(data) == count and data.labelled is labelled and data.image(0).shape == (360, 480, 3)
    if labelled:
        label = data.label(0)
        assert label.shape == (360, 480) and {0, 1, 2, 7} <= set(np.unique(label).tolist()) <= {*range(10), 255}
