"""Label PNGs and ``thresholds.json``, each written aside and renamed."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

RLE = 3  # zlib's run-length strategy: fastest, and smallest on label maps


def label_path(folder: Path, name: str) -> Path:
    """``<folder>/labels/<name>.png``; ``ValueError`` for a name that would leave the folder."""
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"image name {name!r} points outside the label folder")
    return folder / "labels" / f"{name}.png"


def png(label: np.ndarray) -> bytes:
    """uint8 ``[H, W]`` as an 8-bit grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(label).save(buffer, "PNG", compress_type=RLE)
    return buffer.getvalue()


def replace(path: Path, data: bytes) -> None:
    """The file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.write_bytes(data)
    os.replace(aside, path)


def digest(name: str, data: bytes) -> np.ndarray:
    """One file's content as int64 ``[4]``: digests of files are added (mod 2^64), so any order and any split gives the same sum."""
    return np.frombuffer(hashlib.sha256(name.encode() + b"\0" + data).digest(), np.int64).copy()


def hexadecimal(total: np.ndarray) -> str:
    return total.astype(np.int64).tobytes().hex()


def write_json(path: Path, content: dict[str, Any]) -> None:
    replace(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """The content, or None where there is none or a foreign hand broke it."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
