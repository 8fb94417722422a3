"""What the mirror knows about a run, in ``mlflow.json`` of its folder: enough to go on after any end, or to send
everything later.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from esl_dist.runs import Damaged, RunFolder
from esl_dist.runs.records import Record

log = logging.getLogger(__name__)


@dataclass
class MirrorState:
    """``sent`` maps a series to its last mark that the server took (see ``events.Series``); ``uri`` holds
    no password.
    """

    uri: str
    experiment: str
    run_name: str
    params: dict[str, str] = field(default_factory=dict)
    run_id: str = ""
    page: str = ""
    """Where a server shows the run's experiment: from the ``#`` of its address on."""
    stages: dict[str, str] = field(default_factory=dict)
    """Stage -> id of its run."""
    owned: bool = True
    """False where somebody else (a study) opened the run and will close it."""
    params_sent: bool = False
    sent: dict[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, run_dir: Path) -> MirrorState | None:
        """The state of a run folder; None where there is none, or (with a warning) where it is damaged."""
        try:
            return _record(run_dir).find()
        except Damaged as error:
            log.warning("tracking: %s", error)
            return None

    def save(self, run_dir: Path) -> None:
        """Replace the file in one step; raises ``OSError``."""
        _record(run_dir).write(self, durable=False)


def _record(run_dir: Path) -> Record[MirrorState]:
    return Record(RunFolder(run_dir).mirror, MirrorState, "the run is sent anew, as another run of the server")


@contextlib.contextmanager
def only_sender(run_dir: Path) -> Iterator[bool]:
    """Inside: True if no other process sends this run's points (a file system without locks counts as none)."""
    try:
        file = os.open(RunFolder(run_dir).mirror_lock, os.O_RDWR | os.O_CREAT, 0o644)
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
