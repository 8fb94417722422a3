"""A stream that loses what it cannot write, and remembers that it did."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TextIO


class Lenient(io.TextIOBase):
    """A stream whose failures to write are remembered and otherwise ignored."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.failure = ""

    def write(self, text: str) -> int:
        self._try(lambda: self.stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self.stream.encoding

    @property
    def buffer(self) -> io.BufferedIOBase:
        return self.stream.buffer  # type: ignore[return-value]

    def writable(self) -> bool:
        return True

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except UnicodeEncodeError:
            raise
        except (OSError, ValueError) as error:
            self.failure = self.failure or str(getattr(error, "strerror", None) or error)
