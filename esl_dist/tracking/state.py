"""What the mirror knows about a run, in ``mlflow.json`` of its folder: enough to go on after any end, or to send
everything later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from esl_dist.atomic import write_text

STATE, LOCK, METRICS = "mlflow.json", ".mlflow.lock", "metrics.jsonl"


@dataclass
class MirrorState:
    """``sent`` maps a series to its last mark that the server took (see ``points.Series``); ``uri`` holds
    no password.
    """

    uri: str
    experiment: str
    run_name: str
    params: dict[str, str] = field(default_factory=dict)
    run_id: str = ""
    owned: bool = True
    """False where somebody else (a study) opened the run and will close it."""
    params_sent: bool = False
    sent: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, run_dir: Path) -> MirrorState | None:
        """The state of a run folder; None where there is none or it cannot be read."""
        try:
            content = json.loads((run_dir / STATE).read_text(encoding="utf-8"))
            known = {f.name for f in dataclasses.fields(cls)}
            return cls(**{key: value for key, value in content.items() if key in known})
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def save(self, run_dir: Path) -> None:
        """Replace the file in one step; raises ``OSError``."""
        write_text(run_dir / STATE, json.dumps(dataclasses.asdict(self), indent=1), durable=False)


@contextlib.contextmanager
def only_sender(run_dir: Path) -> Iterator[bool]:
    """Inside: True if no other process sends this run's points (a file system without locks counts as none)."""
    try:
        file = os.open(run_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError:
        yield True
        return
    try:
        alone = True
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            alone = False
        except OSError:
            pass
        yield alone
    finally:
        os.close(file)


def without_password(uri: str) -> str:
    """``https://name:secret@host`` as ``https://host``."""
    scheme, mark, rest = uri.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme}{mark}{place.rpartition('@')[2]}{slash}{path}" if mark and "@" in place else uri
