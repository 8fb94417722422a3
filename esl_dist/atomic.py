"""Files that appear whole or not at all, also after ``kill -9`` and a power cut: written aside, forced to the disk,
renamed.

Every system call that can fail on a bad disk goes through ``write_some``, ``sync_file`` and ``rename``, so that tests
can make each fail in turn.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """``data`` as the content of ``replacing``."""
    with replacing(path, durable=durable) as file:
        file.write(data)


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """``write_bytes`` of UTF-8."""
    write_bytes(path, text.encode(), durable=durable)


def write_json(path: Path, content: Any) -> None:
    """``write_bytes`` of indented JSON; a number that is not finite is a programmer's error (``ValueError``), as JSON
    has none.
    """
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def publish_folder(aside: Path, path: Path) -> None:
    """Make a folder that was written aside visible under its name; ``path`` must not exist. Its files are forced to the
    disk already.
    """
    sync_folder(aside)
    rename(aside, path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Force a folder's list of names to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        sync_file(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot, and need not
            raise
    finally:
        os.close(fd)


class HashedFile(io.RawIOBase):
    """A new file that knows the SHA-256 and the size of what was written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._hash = hashlib.sha256()
        self.size = 0
        self.failure: OSError | None = None
        """What the disk said first; libraries that write through this file may hide it behind errors of their own."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            try:
                done += write_some(self._fd, view[done:])
            except OSError as error:
                self.failure = self.failure or error
                raise
        self._hash.update(view)
        self.size += len(view)
        return len(view)

    def sync(self) -> None:
        sync_file(self._fd)

    def close(self) -> None:
        if not self.closed:
            super().close()
            os.close(self._fd)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


@contextlib.contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[HashedFile]:
    """The next content of ``path``, whose folder is made if needed: whoever opens it sees the old content or the new
    one.

    Without ``durable`` nothing is forced to the disk: whole after ``kill -9``, not after a power cut. For thousands of
    small files that are checked by their hashes before they are trusted.

    Raises:
        OSError: the disk refused; ``path`` is as before and nothing is left beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with writing(aside, durable=durable) as file:
            yield file
        rename(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


@contextlib.contextmanager
def writing(path: Path, *, durable: bool = True) -> Iterator[HashedFile]:
    """A new file, forced to the disk when the block ends without an error."""
    file = HashedFile(path)
    try:
        yield file
        if durable:
            file.sync()
    finally:
        file.close()


def write_some(fd: int, data: memoryview) -> int:
    return os.write(fd, data)


def sync_file(fd: int) -> None:
    os.fsync(fd)


def rename(old: Path, new: Path) -> None:
    os.replace(old, new)
