"""Every file read once: what cannot be read is told, kept with sizes and dates, and known to a run before it starts."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from esl_dist.config.schema import Config, DataConfig, DomainConfig, EvalConfig, RunConfig
from esl_dist.data import open_dataset, reading
from esl_dist.data.look import look_first
from esl_dist.data.reading import known_bad, read_all, refuse_known
from esl_dist.diagnostics.fullread import read_everything
from tests.data import disk

STREETS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33, 0]


def made(root: Path) -> DataConfig:
    for number in range(6):
        disk.image(root / f"gta5/images/{number:05d}.png", seed=number)
        disk.palette(root / f"gta5/labels/{number:05d}.png", disk.ids(STREETS))
    return DataConfig(root=str(root), source=DomainConfig(dataset="gta5", root="gta5"))


def spoil(root: Path, *files: str) -> None:
    for file in files:
        (root / "gta5" / file).write_bytes(b"\x89PNG\r\n\x1a\n")


def told(data: DataConfig) -> list[str]:
    opened = open_dataset(data.source, data.root, data.classes)
    return [bad.name for bad in read_all(opened, data, lambda done, total: None)]


def test_what_cannot_be_read_is_told_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(tmp_path)
    opened = open_dataset(data.source, data.root, data.classes)
    assert known_bad(opened, data) == [] == told(data)
    spoil(tmp_path, "images/00001.png", "labels/00004.png")
    assert known_bad(opened, data) == []  # changed since it was read
    assert told(data) == ["00001", "00004"] == [bad.name for bad in known_bad(opened, data)]
    # Nothing is read a second time, but for what has changed.
    seen = []
    wrong = reading._wrong
    monkeypatch.setattr(reading, "_wrong", lambda files, index: seen.append(index) or wrong(files, index))
    disk.image(tmp_path / "gta5/images/00001.png", seed=1)
    os.utime(tmp_path / "gta5/images/00002.png", (1, 1))
    assert told(data) == ["00004"] and seen == [1, 2]
    (tmp_path / "gta5/images/00003.png").unlink()
    (tmp_path / "gta5/images/00003.png").symlink_to("nowhere.png")
    assert told(data) == ["00003", "00004"]


def test_a_run_refuses_at_its_start_what_would_stop_it_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = made(tmp_path)
    spoil(tmp_path, "images/00001.png", "labels/00004.png")
    assert told(data) == ["00001", "00004"]
    opened = open_dataset(data.source, data.root, data.classes)
    with pytest.raises(ValueError, match=r"^source: 2 unreadable samples, data\.bad_samples allows 1"):
        refuse_known(opened, replace(data, bad_samples=1), "source")
    look_first(Config(data=data), opened, opened, None)
    assert "source: cannot be read: " in caplog.text and "00001.png" in caplog.text


def test_a_damaged_record_is_read_again(tmp_path: Path) -> None:
    data = made(tmp_path)
    spoil(tmp_path, "images/00001.png")
    assert told(data) == ["00001"]
    (record,) = (tmp_path / "prepared/read").glob("*.json")
    for content in ("", "[]", '{"00001": 3}', '{"00001": [[1], 2]}'):
        record.write_text(content)
        assert told(data) == ["00001"]


def test_the_doctors_findings(tmp_path: Path) -> None:
    data = made(tmp_path)
    disk.image(tmp_path / "frames/a.png")
    data = replace(data, target=DomainConfig(dataset="folder", root=".", images="frames/*.png", labelled=False))
    config = Config(run=RunConfig(dir=str(tmp_path / "run")), data=data, eval=EvalConfig(split=""))
    said: list[str] = []
    assert [check.status for check in read_everything(config, said.append)] == ["ok", "ok"] and not said
    spoil(tmp_path, "images/00001.png")
    source, target = read_everything(config, said.append)
    assert source.status == "warning" and "6 images with their labels: 1 cannot be read: 00001" in source.text
    assert target.status == "ok" and "00001.png" in said[0]
    strict = replace(config, data=replace(data, bad_samples=0))
    assert read_everything(strict, said.append)[0].status == "broken"
