"""One run per folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from esl_dist.distributed.collectives import agree
from esl_dist.runs import RunFolder
from esl_dist.runs.content import Holder
from esl_dist.runs.shape import shaped

log = logging.getLogger(__name__)


@contextlib.contextmanager
def alone_in(folder: Path, is_main: bool) -> Iterator[None]:
    """Inside, rank 0 holds the folder of a command's ``--out`` for all ranks. Collective.

    Raises:
        ValueError: as ``RunLock.acquire``, on every rank.
    """
    lock = agree(lambda: RunLock(folder, "--out").acquire() if is_main else None)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


class RunLock:
    """An exclusive lock on a run folder: a record lock of the kernel on ``.lock``, which also says who holds it.

    The kernel drops it when the process dies, however it dies, so the file that ``kill -9`` leaves is no obstacle; a
    forked loader does not inherit it. On NFS the lock is as good as the server's lock service, also between hosts. A
    file system without locks is said once.
    """

    def __init__(self, folder: Path, option: str = "") -> None:
        """``option`` names the folder where it is no run's."""
        self.folder, self._option = folder, option
        self._fd = -1
        self._made = False

    def acquire(self) -> RunLock:
        """Take it, making the folder if needed.

        Raises:
            ValueError: another process holds it (its pid and host are named), or the folder cannot be written.
        """
        assert self._fd < 0, "already held"
        self._made = not self.folder.exists()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(RunFolder(self.folder).lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN) and self._fd >= 0:
                holder = self._holder()
                self._close()
                raise ValueError(
                    f"{self._named} is in use by {holder}; wait for it, stop it, or choose another"
                    f" {self._option or 'run.name'}"
                ) from None
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                self._close()
                raise ValueError(
                    f"{self._named} cannot be written ({error.strerror or error}); set {self._option or 'run.dir'} to"
                    " one that can"
                ) from None
            log.warning("%s is on a file system without locks: nothing keeps a second run out of it", self.folder)
        record = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        }
        with contextlib.suppress(OSError):  # a full disk: the lock holds all the same
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(record).encode(), 0)
        return self

    def release(self) -> None:
        """Give it back; the file stays, empty. A folder that was made for it and got nothing else goes again."""
        if self._fd >= 0:
            file = RunFolder(self.folder).lock
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
                if self._made and [path.name for path in self.folder.iterdir()] == [file.name]:
                    file.unlink()
                    self.folder.rmdir()
            self._close()

    def __enter__(self) -> RunLock:
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @property
    def _named(self) -> str:
        return f"{'folder' if self._option else 'run folder'} {self.folder}"

    def _holder(self) -> str:
        try:
            holder: Holder = shaped(json.loads(os.pread(self._fd, 4096, 0)), Holder)
        except (OSError, ValueError, RecursionError):
            return "another process"
        return f"pid {holder.pid} on host {holder.host} since {holder.started}"

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
