"""Colours on a terminal, by rich where it is installed; none in pipes and files, and none with ``NO_COLOR``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TextIO

Paint = Callable[[str, str], str]
"""``paint(text, style)`` with a style of rich's, such as ``bold`` or ``green``; what a terminal is sent for it."""


def painter(stream: TextIO) -> Paint:
    """The paint for a stream; one that changes nothing where the stream is no terminal or rich is not installed."""
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return _plain
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return _plain
    console = Console(file=stream)

    def paint(text: str, style: str) -> str:
        with console.capture() as captured:
            console.print(Text(text, style), end="", soft_wrap=True)
        return captured.get()

    return paint


def _plain(text: str, style: str) -> str:
    return text
