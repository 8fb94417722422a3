"""What a failure means to a user: one line and an exit code, or a fault of the program, which keeps its traceback."""

from __future__ import annotations

import errno
import os
import re

from esl_dist.errors import RunFailure

USAGE_ERROR, RUN_ERROR = 2, 1
LONGEST = 600
LOST_PEER = "another rank ended or cannot be reached; its own message says why"

_FULL = (errno.ENOSPC, errno.EDQUOT)
_NAMED = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError)
_WAYS_OUT = {
    errno.ENOSPC: "free some, or write elsewhere (run.dir, data.root, extract.spool_dir, --out)",
    errno.EDQUOT: "free some, or write elsewhere (run.dir, data.root, extract.spool_dir, --out)",
    errno.EROFS: "write elsewhere (run.dir, data.root, extract.spool_dir, --out)",
    errno.EACCES: "its owner or mode must allow it, or write elsewhere (run.dir, --out)",
    errno.EPERM: "its owner or mode must allow it, or write elsewhere (run.dir, --out)",
    errno.EMFILE: "raise ulimit -n, or lower data.workers",
    errno.ENFILE: "raise ulimit -n, or lower data.workers",
    errno.ENOMEM: "lower optim.batch, data.workers or the sizes",
}
_SHARED_MEMORY = re.compile(r"shared memory|/torch_\d+_|bus error|/dev/shm", re.IGNORECASE)
_LOST_PEER = re.compile(
    r"connection (closed by peer|reset|refused)|broken pipe|socket (timeout|closed)|recvvalue failed"
    r"|timed out (waiting|after)|wait timeout|remote process exited|nccl.*(unhandled system error|remote)",
    re.IGNORECASE,
)


def explained(error: BaseException) -> tuple[str, int] | None:
    """A line and an exit code for what users and machines do wrong; None for a fault of the program."""
    if isinstance(error, RunFailure):
        return str(error), RUN_ERROR
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, ValueError):
        return str(error) or type(error).__name__, USAGE_ERROR
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "allocate memory" in str(error)):
        return "out of memory; lower optim.batch, data.workers or the sizes (--size, --batch)", RUN_ERROR
    if isinstance(error, RuntimeError):
        return _of_torch(str(error))
    return None


def one_line(text: str) -> str:
    """A message without line breaks and of a bounded length."""
    joined = " ".join(text.split())
    return joined if len(joined) <= LONGEST else f"{joined[: LONGEST - 1]}…"


def _of_the_system(error: OSError) -> tuple[str, int]:
    number = error.errno if error.errno is not None else _number_in(str(error))
    reason = os.strerror(number).lower() if number else one_line(str(error)) or type(error).__name__
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    advice = f"; {_WAYS_OUT[number]}" if number in _WAYS_OUT else ""
    code = USAGE_ERROR if isinstance(error, _NAMED) else RUN_ERROR
    return f"{' -> '.join(names) or 'the system'}: {reason}{advice}", code


def _number_in(text: str) -> int | None:
    """The error number that HDF5 writes into its message: ``errno = 28``."""
    found = re.search(r"errno\s*=?\s*(\d+)", text, re.IGNORECASE)
    return int(found[1]) if found else None


def _of_torch(text: str) -> tuple[str, int] | None:
    lowered = text.lower()
    if "no space left" in lowered and not _SHARED_MEMORY.search(text):
        return f"{text.splitlines()[0]}; {_WAYS_OUT[errno.ENOSPC]}", RUN_ERROR
    if _SHARED_MEMORY.search(text):
        return "/dev/shm is full or too small: raise it (docker run --shm-size=8g), or set data.workers=0", RUN_ERROR
    if _LOST_PEER.search(text):
        return LOST_PEER, RUN_ERROR
    return None
