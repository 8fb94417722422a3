"""How an option is checked."""

from __future__ import annotations


def require(condition: bool, key: str, message: str) -> None:
    """A check of an option: ``ValueError`` with one line that begins with its key."""
    if not condition:
        raise ValueError(f"{key}: {message}")
