"""HDF5 files are read, or refused in one line; nothing outside them is followed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from esl_dist.runs import Damaged, hdf5
from tests.runs.damage import flips


def made(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["key"] = '{"a": [1, 2]}'
        file["id"] = np.arange(4)
        file["high/entropy"] = np.ones((2, 3), np.int64)
    return path


def read(path: Path) -> object:
    with hdf5.opened(path, "make it again") as file:
        key = hdf5.json_of(hdf5.text(file, "key"), dict[str, list[int]], "key")
        return key, hdf5.array(file, "id", np.int64, 1).tolist(), hdf5.array(file, "high/entropy", np.int64, 2).tolist()


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    assert read(made(tmp_path / "a.h5")) == ({"a": [1, 2]}, [0, 1, 2, 3], [[1, 1, 1], [1, 1, 1]])


def _soft(file: h5py.File) -> None:
    file["other"] = h5py.SoftLink("/id")


def _external(file: h5py.File) -> None:
    file["high/other"] = h5py.ExternalLink("secret.h5", "/id")


def _stored_outside(file: h5py.File) -> None:
    del file["id"]
    file.create_dataset("id", (4,), np.int64, external=[("/etc/passwd", 0, 32)])


def _float(file: h5py.File) -> None:
    del file["id"]
    file["id"] = np.ones(4)


def _number(file: h5py.File) -> None:
    file.attrs["key"] = 3


def _shape(file: h5py.File) -> None:
    file.attrs["key"] = '{"a": 1}'


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_soft, "other is a link"),
        (_external, "high/other is a link"),
        (_stored_outside, "id: is stored in another file"),
        (_float, "id: must be int64 of 1 dimension"),
        (_number, "key: must be text"),
        (_shape, "key.a: must be a list"),
    ],
)
def test_what_is_not_is_refused(tmp_path: Path, change: Callable[[h5py.File], None], said: str) -> None:
    path = made(tmp_path / "a.h5")
    with h5py.File(path, "a") as file:
        change(file)
    with pytest.raises(Damaged) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ") and said in str(error.value) and "make it again" in str(error.value)


def test_a_file_that_is_cut_short_missing_or_no_hdf5(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5")
    whole = path.read_bytes()
    for data in (whole[: len(whole) // 2], b"", b"not HDF5"):
        path.write_bytes(data)
        with pytest.raises(Damaged):
            read(path)
    path.unlink()
    with pytest.raises(Damaged):
        read(path)


def test_flips_raise_nothing_else(tmp_path: Path) -> None:
    path = made(tmp_path / "a.h5")
    for data in flips(path.read_bytes()):
        path.write_bytes(data)
        try:
            read(path)
        except Damaged as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
