"""What kinds of files weights come in, and what people wrap around them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "weights",
    "params",
    "segmenter",
    "module",
)
"""Keys under which trainers put a network's weights, the likeliest first."""
_DEEPEST = 4


def unwrapped(content: object) -> tuple[object, tuple[str, ...]]:
    """The innermost dictionary that holds tensors, and the keys that lead to it; the content itself where none does."""
    path: list[str] = []
    inside = content
    while isinstance(inside, Mapping) and not _has_tensors(inside) and len(path) < _DEEPEST:
        holders = [str(key) for key, value in inside.items() if isinstance(value, Mapping) and _reaches(value)]
        chosen = next((key for key in WRAPPERS if key in holders), holders[0] if len(holders) == 1 else None)
        if chosen is None:
            return content, ()
        path.append(chosen)
        inside = inside[chosen]
    return (inside, tuple(path)) if isinstance(inside, Mapping) and _has_tensors(inside) else (content, ())


def read_npz(path: Path) -> dict[str, Tensor] | None:
    """The arrays of a numpy archive; None for another file.

    Raises:
        ValueError: it holds Python objects.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if not names or not all(name.endswith(".npy") for name in names):
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}


def what_it_is(path: Path) -> str:
    """A file that holds no weights this program reads, by its first bytes; empty where they say nothing."""
    with path.open("rb") as file:
        head = file.read(512)
    begins = head.lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the weights; fetch them with git lfs pull"
    if begins.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not the weights; fetch the file itself"
    if head.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM")):
        return "is an image, not weights"
    if head.startswith(b"\x89HDF"):
        return "is an HDF5 file (Keras?), which is not read; save its arrays with numpy.savez"
    if head.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ")) or head[257:262] == b"ustar":
        return "is a compressed archive; unpack it and name the file with the weights in it"
    if head.startswith(b"\x93NUMPY"):
        return "is a single numpy array; save all of them with numpy.savez"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith("constants.pkl") for name in names):
            return "is TorchScript, a program; save the network's state_dict() instead"
        if any(name.endswith("archive_format") or "/models/" in name for name in names):
            return "is a program of torch.export; save the network's state_dict() instead"
        if not any(name.endswith("data.pkl") for name in names):
            return "is a zip archive; unpack it and name the file with the weights in it"
    if b"pytorch" in head[:64] and head[:1] == b"\x08":
        return "is an ONNX graph, a program; save the network's state_dict() instead"
    return ""


def _has_tensors(content: Mapping[object, object]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def _reaches(content: Mapping[object, object], depth: int = 0) -> bool:
    """Whether there are tensors with names in a dictionary, or in one inside it; an optimiser's are numbered."""
    if _has_tensors(content):
        return any(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    inner = [value for key, value in content.items() if isinstance(value, Mapping) and isinstance(key, str)]
    return depth < _DEEPEST and any(_reaches(value, depth + 1) for value in inner)
