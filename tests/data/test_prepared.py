"""Prepared data: the same samples as from the originals, or the originals; made once, whatever was killed or damaged in
between.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from esl_dist import preparation
from esl_dist.config.schema import Config, DataConfig, DomainConfig, EvalConfig
from esl_dist.data import open_at_size, open_dataset, to_prepare
from esl_dist.data.loader import Batch, InferenceBatch, Order, TrainStream, View, inference_batches
from esl_dist.data.prepared import PreparedDataset, use
from esl_dist.preparation import prepare
from tests.data import disk
from tests.ranks import run_ranks

SIZE = (24, 16)
NATIVE = [(64, 48), (60, 50), (24, 16), (80, 32), (33, 70), (64, 48), (40, 40), (52, 30)]


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Eight GTA5 images of seven sizes with labels, and four Cityscapes ones."""
    for i, size in enumerate(NATIVE):
        disk.image(tmp_path / f"gta5/images/{i:05d}.png", size, i)
        disk.palette(
            tmp_path / f"gta5/labels/{i:05d}.png",
            np.random.default_rng(i).integers(7, 34, (size[1], size[0]), dtype=np.uint8),
        )
    for i in range(4):
        disk.image(tmp_path / f"cityscapes/leftImg8bit/train/ulm/ulm_{i}_leftImg8bit.png", (48, 32), i)
        disk.grey(tmp_path / f"cityscapes/gtFine/train/ulm/ulm_{i}_gtFine_labelIds.png", disk.ids([7, 8, 0], (48, 32)))
    source = DomainConfig(dataset="gta5", root="gta5", size=SIZE)
    return DataConfig(
        root=str(tmp_path),
        source=source,
        target=DomainConfig(dataset="cityscapes", root="cityscapes", split="train", size=SIZE),
    )


def made(data: DataConfig, workers: int = 0) -> list[dict[str, object]]:
    return prepare(Config(data=data, eval=EvalConfig(split="")), workers, per_file=3)


def samples(data: DataConfig, workers: int = 0, **options: object) -> list[Batch]:
    domain = data.source
    view = View(domain.size, domain.fit, mirror=0.5, blur=0.5, **options)  # type: ignore[arg-type]
    stream = TrainStream(open_at_size(domain, data), view, Order(seed=3, batch=2), workers=workers)
    try:
        return [next(stream) for _ in range(9)]
    finally:
        stream.close()


def inferred(data: DataConfig) -> list[InferenceBatch]:
    return list(
        inference_batches(
            open_at_size(data.source, data),
            range(len(NATIVE)),
            size=SIZE,
            batch=3,
            with_labels=True,
            fit=data.source.fit,
        )
    )


def assert_same(got: list[Batch], expected: list[Batch]) -> None:
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.indices, b.indices) and a.bad == b.bad
        assert (a.labels is None) == (b.labels is None) and (
            a.labels is None or b.labels is None or torch.equal(a.labels, b.labels)
        )


def folder(data: DataConfig) -> Path:
    return to_prepare(data.source, data).folder


def spoil(path: Path) -> None:
    """Same name, same number of bytes, another content."""
    path.write_bytes(bytes(path.stat().st_size))


def test_a_stretched_set_gives_the_same_samples_and_never_opens_the_originals(data: DataConfig) -> None:
    before, without_labels, seen = samples(data), samples(data, labels=False), inferred(data)
    found = made(data)
    assert [(f["images"], f["made"], f["unreadable"]) for f in found] == [(8, 3, 0), (4, 2, 0)]
    assert isinstance(open_at_size(data.source, data), PreparedDataset)
    again = inferred(data)  # labels at their own size do come from the originals
    assert all(torch.equal(a.images, b.images) for a, b in zip(again, seen, strict=True))
    assert all(
        np.array_equal(x, y)
        for a, b in zip(again, seen, strict=True)
        for x, y in zip(a.labels or (), b.labels or (), strict=True)
    )
    for path in Path(data.root, "gta5").rglob("*.png"):
        spoil(path)
    assert_same(samples(data), before)
    assert_same(samples(data, workers=2), before)
    assert_same(samples(data, labels=False), without_labels)


def test_padded_images_of_many_sizes(data: DataConfig) -> None:
    data = dataclasses.replace(data, source=dataclasses.replace(data.source, fit="pad"))
    before = samples(data)
    made(data)
    assert folder(data).name == "gta5-24x16-pad-19"
    for path in Path(data.root, "gta5/images").glob("*.png"):
        spoil(path)
    assert_same(samples(data), before)


def test_another_size_comes_from_the_originals(data: DataConfig) -> None:
    made(data)
    opened = open_at_size(data.source, data)
    batch = next(iter(inference_batches(opened, [4], size=(48, 32), batch=1)))
    expected = next(
        iter(inference_batches(open_dataset(data.source, data.root, data.classes), [4], size=(48, 32), batch=1))
    )
    assert torch.equal(batch.images, expected.images)


def test_workers_and_ranks_make_the_same_files(data: DataConfig, tmp_path: Path) -> None:
    def digests() -> dict[str, list[str]]:
        return {
            path.parent.name: [entry["sha256"] for entry in json.loads(path.read_text())["files"]]
            for path in sorted(Path(data.root, "prepared").glob("*/manifest.json"))
        }

    made(data)
    alone = digests()
    shutil.rmtree(Path(data.root, "prepared"))
    made(data, workers=2)
    assert digests() == alone
    shutil.rmtree(Path(data.root, "prepared"))
    found = run_ranks(2, "tests.data.test_prepared:on_a_rank", data.root)
    assert digests() == alone and [f["made"] for f in found[0]] == [f["made"] for f in found[1]] == [3, 2]


def on_a_rank(root: str) -> list[dict[str, object]]:
    source = DomainConfig(dataset="gta5", root="gta5", size=SIZE)
    return made(
        DataConfig(
            root=root,
            source=source,
            target=DomainConfig(dataset="cityscapes", root="cityscapes", split="train", size=SIZE),
        )
    )


def test_what_is_there_is_kept_and_what_is_damaged_is_made_again(
    data: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    made(data)
    times = {path: path.stat().st_mtime_ns for path in folder(data).glob("*.h5")}
    assert [f["made"] for f in made(data)] == [0, 0]
    assert {path: path.stat().st_mtime_ns for path in times} == times
    flip(folder(data) / "00001.h5")
    with caplog.at_level(logging.WARNING, "esl_dist"):
        assert [f["made"] for f in made(data)] == [1, 0]
    assert "00001.h5 is damaged" in caplog.text and "made again" in caplog.text
    assert [f["made"] for f in made(data)] == [0, 0]


def flip(path: Path) -> None:
    """One bit of an image."""
    content = bytearray(path.read_bytes())
    pixels = bytes(open_pixels(path))
    at = bytes(content).index(pixels)
    content[at + len(pixels) // 2] ^= 4
    path.write_bytes(bytes(content))


def open_pixels(path: Path) -> bytes:
    import h5py

    with h5py.File(path, "r") as file:
        stored: bytes = file["image"][1].tobytes()
    return stored


def test_a_flipped_bit_is_named_and_not_used(data: DataConfig, caplog: pytest.LogCaptureFixture) -> None:
    before = samples(data)
    made(data)
    flip(folder(data) / "00000.h5")
    with caplog.at_level(logging.WARNING, "esl_dist"):
        assert_same(samples(data), before)
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 1 and "00000.h5 is damaged" in named[0] and "read from the originals" in named[0]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "1 of 3 files"),
        (lambda file: file.unlink(), "00001.h5 is missing"),
        (lambda file: (file.parent / "manifest.json").unlink(), "is not complete"),
        (lambda file: (file.parent / "manifest.json").write_text("{"), "is not complete"),
        (
            lambda file: (file.parent / "manifest.json").write_text(
                json.dumps({"settings": {}, "files": [], "images_per_file": 0})
            ),
            "is not complete",
        ),
    ],
    ids=["cut", "missing", "no manifest", "half a manifest", "no numbers"],
)
def test_damage_seen_at_the_start_is_one_sentence(
    data: DataConfig, damage: Callable[[Path], object], said: str
) -> None:
    before = samples(data)
    made(data)
    damage(folder(data) / "00001.h5")
    _, sentence = use(to_prepare(data.source, data))
    assert said in sentence and "originals" in sentence and "\n" not in sentence
    assert_same(samples(data), before)
    assert made(data)[0]["made"] in (0, 1)
    assert use(to_prepare(data.source, data))[1] == f"reading prepared data: {folder(data)}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": (32, 16)}, "there as gta5-24x16-19, not as gta5-32x16-19"),
        ({"fit": "pad"}, "not as gta5-24x16-pad-19"),
        ({"labelled": False}, "labelled=True, wanted is False"),
        ({"root": "./gta5"}, "root=gta5, wanted is ./gta5"),
    ],
)
def test_other_settings_are_named_and_not_used(data: DataConfig, change: dict[str, object], said: str) -> None:
    made(data)
    other = dataclasses.replace(data, source=dataclasses.replace(data.source, **change))  # type: ignore[arg-type]
    found, sentence = use(to_prepare(other.source, other))
    assert not isinstance(found, PreparedDataset) and said in sentence and "reading the originals" in sentence


def test_another_protocol_is_not_used(data: DataConfig) -> None:
    made(data)
    other = dataclasses.replace(data, classes="16")
    found, sentence = use(to_prepare(other.source, other))
    assert not isinstance(found, PreparedDataset) and "not as gta5-24x16-16" in sentence


def test_other_originals_are_noticed_file_by_file(data: DataConfig) -> None:
    made(data)
    disk.image(Path(data.root, "gta5/images/00004.png"), (36, 70), 99)
    disk.palette(Path(data.root, "gta5/labels/00004.png"), disk.ids([7], (36, 70)))
    expected = samples(dataclasses.replace(data, prepared=""))
    found, sentence = use(to_prepare(data.source, data))
    assert (
        isinstance(found, PreparedDataset)
        and found.usable == {0, 2}
        and "00001.h5 was made of other images or labels" in sentence
    )
    assert_same(samples(data), expected)
    assert made(data)[0]["made"] == 1


def test_another_resize_is_noticed(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library or processor that resizes to other pixels."""
    made(data)
    monkeypatch.setattr("esl_dist.data.prepared.wanted.resize_fingerprint", lambda: "another")
    found, sentence = use(to_prepare(data.source, data))
    assert not isinstance(found, PreparedDataset) and "wanted is another" in sentence
    with pytest.raises(ValueError, match="was made with other settings"):
        made(data)


def test_unreadable_originals_are_replaced_named_and_counted_as_ever(data: DataConfig) -> None:
    broken = Path(data.root, "gta5/images/00003.png")
    broken.write_bytes(broken.read_bytes()[:-40])
    label = Path(data.root, "gta5/labels/00006.png")
    label.write_bytes(b"")
    before, without_labels = samples(data), samples(data, labels=False)
    assert any(batch.bad for batch in before)
    assert made(data)[0]["unreadable"] == 2
    assert_same(samples(data), before)
    assert_same(samples(data, labels=False), without_labels)
    with pytest.raises(ValueError, match=r"2 unreadable samples, data\.bad_samples allows 1"):
        made(dataclasses.replace(data, bad_samples=1))


def test_labels_of_another_encoding_stop_it(data: DataConfig) -> None:
    disk.palette(Path(data.root, "gta5/labels/00002.png"), disk.ids([77], (24, 16)))
    with pytest.raises(ValueError, match=r"00002\.png holds id 77"):
        made(data)


def test_no_room_is_said_before_the_first_file(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 100))  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"needs 0\.0 GB more, 0\.0 GB are free; set it to a folder on a larger disk"):
        made(data)
    assert not list(folder(data).glob("*.h5"))


def test_never_means_never(data: DataConfig) -> None:
    made(data)
    never = dataclasses.replace(data, prepared="")
    assert not isinstance(open_at_size(never.source, never), PreparedDataset)
    with pytest.raises(ValueError, match=r"data\.prepared: is empty"):
        made(never)
