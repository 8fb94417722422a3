"""From a file to a flat mapping of tensors, whoever wrote it. Nothing pickled is executed."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from esl_dist.models.weights.formats import read_npz, unwrapped, what_it_is
from esl_dist.models.weights.origins import origin
from esl_dist.models.weights.safetensors import SUFFIX, is_safetensors, read_tensors
from esl_dist.runs import CheckpointFolder, manifest

PREFIXES = ("module.", "_orig_mod.", "model.", "Scale.")
_SCALAR = np.float64(0).__reduce__()[0]
# A best mIoU beside the weights (MaxSquare) is a numpy number: plain data, under the names of old and new numpy.
_NUMPY_SCALARS: list[Any] = [
    *((_SCALAR, f"{module}.multiarray.scalar") for module in ("numpy.core", "numpy._core")),
    np.dtype,
    *(type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64")),
]


@dataclass(frozen=True)
class Stored:
    """A checkpoint's tensors under their keys without wrapper and prefix, and what was around them."""

    path: Path
    tensors: Mapping[str, Tensor]
    sha256: str
    wrapped: bool
    """Whether the tensors sat under a top-level ``state_dict``."""
    prefixes: tuple[str, ...]
    """Prefixes that every key had, outermost first: ``module.`` (DataParallel), ``_orig_mod.`` (torch.compile),
    ``model.`` (a trainer), ``Scale.`` (the converted Caffe ResNet).
    """
    own: bool
    """Whether this package wrote the file, as part of a checkpoint folder."""


def read(path: str | Path) -> Stored:
    """The tensors of a checkpoint file, on the CPU.

    Raises:
        ValueError: no such file, unreadable or truncated, Python objects beside tensors, or no state dict; one line
            with the way out.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name the file with the weights in it")
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        hint = f"check model.checkpoint{origin(path)}"
        raise ValueError(f"{path}: cannot read the checkpoint: {error.strerror}; {hint}") from None
    content = _unpickled(path)
    entries, wrappers = unwrapped(content)
    if not isinstance(entries, dict) or not any(isinstance(value, Tensor) for value in entries.values()):
        found = (
            f"a dict of {', '.join(map(str, list(entries)[:4])) or 'nothing'}"
            if isinstance(entries, dict)
            else f"a {type(entries).__name__}"
        )
        raise ValueError(
            f"{path}: holds {found}, no weights; save the network's state_dict() there, alone or under the key"
            " state_dict"
        )
    tensors = {str(key): value for key, value in entries.items() if isinstance(value, Tensor)}
    prefixes: list[str] = []
    while common := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in tensors)), None):
        prefixes.append(common)
        tensors = {key.removeprefix(common): value for key, value in tensors.items()}
    folder = CheckpointFolder(path.parent)
    own = folder.is_own and path in (folder.segmenter, folder.partner)
    if own:
        _require_whole(path, digest)
    return Stored(path, tensors, digest, wrappers == ("state_dict",), tuple(prefixes), own)


def _require_whole(path: Path, digest: str) -> None:
    """``ValueError`` where a file of a checkpoint is not the one that its manifest lists: torch reads over flipped
    bits.
    """
    written = manifest.read(path.parent)["files"].get(path.name)
    if written is not None and written["sha256"] != digest:
        raise ValueError(
            f"{path}: its SHA-256 is not the manifest's (damaged); name another checkpoint of the run, or start the run"
            " again: it goes on from its newest whole one"
        )


def _unpickled(path: Path) -> object:
    if path.suffix == SUFFIX or is_safetensors(path):
        try:
            return read_tensors(path)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; fetch it again") from None
    if (arrays := _numpy_arrays(path)) is not None:
        return arrays
    if known := what_it_is(path):
        raise ValueError(f"{path}: {known}")
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file may fail anywhere in the unpickler
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            raise ValueError(
                f"{path}: holds Python objects beside tensors, which are not executed; save its state_dict() alone"
            ) from None
        raise ValueError(
            f"{path}: is truncated, or no PyTorch checkpoint ({type(error).__name__}); fetch it again"
        ) from None


def _numpy_arrays(path: Path) -> dict[str, Tensor] | None:
    try:
        return read_npz(path)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: is a damaged archive of numpy arrays, or one of Python objects ({error})") from None


def refuse_not_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """ValueError naming the first tensor with an infinity or a NaN."""
    for key, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(
                f"{path}: {key} has values that are not finite; the file is damaged or its training diverged"
            )
