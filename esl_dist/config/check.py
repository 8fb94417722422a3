"""How an option is checked."""

from __future__ import annotations


def require(condition: bool, key: str, message: str) -> None:
    """A check of an option: ``ValueError`` with one line that begins with its key."""
    if not condition:
        raise ValueError(f"{key}: {message}")


LONGEST_NAME = 200
"""Bytes of a folder's name; file systems take 255, of which some are for what is put beside it."""


def require_folder_name(name: str, key: str) -> None:
    """A name that becomes a folder stays below the folder that it is put into, whatever is in it.

    Raises:
        ValueError: empty, absolute, with ``.`` or ``..`` as a part, or too long.
    """
    parts = name.split("/")
    below = all(part not in ("", ".", "..") for part in parts) and "\\" not in name
    require(below, key, f"{name!r} is no name of a folder below another: no empty part, no '.', '..' or backslash")
    long = [part for part in parts if len(part.encode()) > LONGEST_NAME]
    require(not long, key, f"is longer than a folder's name can be ({LONGEST_NAME} bytes)")
