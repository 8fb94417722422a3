"""Whatever a trainer wraps around weights is taken off; whatever is no file of weights is named for what it is."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from esl_dist.models.weights.reading import read

WEIGHTS = {"conv1.weight": torch.ones(2, 3), "conv1.bias": torch.zeros(2)}


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{key}": value for key, value in WEIGHTS.items()}


NUMBERED = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}

WRAPPED: dict[str, object] = {
    "alone": WEIGHTS,
    "DataParallel": prefixed("module."),
    "compiled": prefixed("_orig_mod."),
    "compiled, then wrapped": prefixed("module._orig_mod."),
    "a trainer's module": {"state_dict": prefixed("model."), "epoch": 3},
    "model_state": {"model_state": WEIGHTS, "optimizer_state": NUMBERED, "best": 0.5},
    "model": {"epoch": 1, "model": prefixed("module."), "optimizer": NUMBERED},
    "nested": {"trainer": {"model": {"state_dict": WEIGHTS}}, "optimizer": NUMBERED},
    "one of an own name": {"epoch": 1, "the_weights": WEIGHTS},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrappers_come_off(name: str, tmp_path: Path) -> None:
    torch.save(WRAPPED[name], tmp_path / "file.pth")
    found = read(tmp_path / "file.pth")
    assert found.tensors.keys() == WEIGHTS.keys()
    assert all(torch.equal(found.tensors[key], value) for key, value in WEIGHTS.items())


def test_numpy_archives_and_safetensors_by_any_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "file.npz", **{key: value.numpy() for key, value in WEIGHTS.items()})
    assert read(tmp_path / "file.npz").tensors.keys() == WEIGHTS.keys()
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file(WEIGHTS, tmp_path / "file.bin")
    assert torch.equal(read(tmp_path / "file.bin").tensors["conv1.weight"], WEIGHTS["conv1.weight"])


def objects(path: Path) -> None:
    np.savez(path, a=np.array([{}], dtype=object))


def script(path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), str(path))


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


STRANGERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "Git LFS": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "Git LFS"),
    "a web page": (lambda p: p.write_text("\n<!DOCTYPE html><html>Not found"), "web page"),
    "HDF5": (lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(64)), "HDF5"),
    "gzip": (lambda p: p.write_bytes(b"\x1f\x8b" + bytes(64)), "compressed archive"),
    "TorchScript": (script, "TorchScript"),
    "a zip": (zipped, "zip archive"),
    "one array": (lambda p: np.save(p.open("wb"), np.zeros(3)), "single numpy array"),
    "arrays of objects": (objects, "Python objects"),
    "nothing": (lambda p: p.write_bytes(b""), "truncated"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", STRANGERS)
def test_other_files_are_named(name: str, tmp_path: Path) -> None:
    write, said = STRANGERS[name]
    path = tmp_path / ("file.npz" if "objects" in name else "file.pth")
    write(path)
    with pytest.raises(ValueError, match=said) as raised:
        read(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)
