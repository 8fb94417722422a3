"""The manifest of a checkpoint folder: what it holds, written last, and whether the folder still holds it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from esl_dist import __version__
from esl_dist.runs.checkpoints import CheckpointFolder
from esl_dist.runs.content import Manifest
from esl_dist.runs.shape import Misshapen, shaped

SCHEMA_VERSION = 1
"""Raised when a checkpoint of this release could not be read by the last one; every version down to 1 stays
readable.
"""


def encode(step: int, files: Mapping[str, Mapping[str, Any]], meta: Mapping[str, Any]) -> bytes:
    """The manifest's bytes. ``files``: name → ``{"sha256", "size"}``; ``meta``: what the run wants back,
    JSON values.
    """
    import torch  # to read one nothing of it is needed

    content = {
        "schema_version": SCHEMA_VERSION,
        "step": step,
        "code_version": __version__,
        "torch_version": str(torch.__version__),
        "files": dict(files),
        "meta": dict(meta),
    }
    return _bytes({**content, "sha256": _digest(content)})


def read(folder: Path) -> dict[str, Any]:
    """The manifest of ``folder``.

    Raises:
        ValueError: it is missing, unreadable, edited, or of a later release; one sentence that names it.
    """
    path = CheckpointFolder(folder).manifest
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from None
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: is not JSON (cut short or damaged)") from None
    if not isinstance(content, dict) or not isinstance(content.get("schema_version"), int):
        raise ValueError(f"{path}: has no schema version")
    if content["schema_version"] > SCHEMA_VERSION:
        raise ValueError(
            f"{path}: was written by a later release (schema {content['schema_version']}, this one reads up to"
            f" {SCHEMA_VERSION}); update esl_dist"
        )
    # Bytes, not values, are compared: a flipped bit that JSON would read over is damage too.
    digest = content.pop("sha256", None)
    try:
        whole = digest == _digest(content) and _bytes({**content, "sha256": digest}) == raw
    except ValueError:  # a number that JSON has not
        whole = False
    if not whole:
        raise ValueError(f"{path}: does not match its own SHA-256 (edited or damaged)")
    try:
        shaped(content, Manifest)
    except Misshapen as error:
        raise ValueError(f"{path}: {error}") from None
    return content


def problems(folder: Path) -> list[str]:
    """Why the folder is not what its manifest says, one sentence per reason; empty: every byte is as it was written."""
    try:
        content = read(folder)
    except ValueError as error:
        return [str(error)]
    found = []
    if folder.name != f"step_{content['step']:08d}":
        found.append(f"{folder}: holds step {content['step']}, not what its name says")
    for name, expected in content["files"].items():
        path = folder / name
        if Path(name).name != name:
            found.append(f"{folder}: its manifest lists {name!r}, which is outside the folder")
            continue
        try:
            found += _differences(path, expected)
        except OSError as error:
            found.append(f"{path}: cannot be read ({error.strerror or error})")
    return found


def _differences(path: Path, expected: Mapping[str, Any]) -> list[str]:
    size = path.stat().st_size
    if size != expected["size"]:
        return [f"{path}: has {size} bytes, the manifest says {expected['size']}"]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return [] if digest == expected["sha256"] else [f"{path}: its SHA-256 is not the manifest's (damaged)"]


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_bytes(content)).hexdigest()


def _bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()
