"""Saving while training goes on: a copy on the device now, the disk later, and no disk's failure stops a step."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from esl_dist.engine.checkpoint import retention
from esl_dist.engine.checkpoint.folder import save

log = logging.getLogger(__name__)

MB = 1e6


class Writer:
    """Writes the checkpoints of one folder, one at a time; with ``background`` from a thread.

    A full, read-only or failing disk is a logged warning with the space that was needed: training goes on and the last
    good state stays. ``require`` turns it into an error where the next thing to do needs the file.
    """

    def __init__(self, folder: Path, keep: int, background: bool = True) -> None:
        self.folder = folder
        self.keep = keep
        self.background = background
        self._thread: threading.Thread | None = None
        self._written: int | None = None
        self._problem = ""
        self._error: BaseException | None = None

    @staticmethod
    def snapshot(state: Any) -> Any:
        """A copy of nested dicts, lists and tuples whose tensors are clones on their own device: the training may
        change the originals at once.
        """
        return _map(state, lambda tensor: tensor.detach().clone())

    def submit(self, step: int, tensors: Mapping[str, Any], meta: Mapping[str, Any]) -> None:
        """Save a snapshot as the checkpoint of ``step``; waits first for the one before, so that at most one copy is
        held.
        """
        self.wait()
        ready = _record_event(tensors)
        if not self.background:
            self._write(step, tensors, meta, ready)
            self.wait()
            return
        self._thread = threading.Thread(
            target=self._write, args=(step, tensors, meta, ready), name=f"checkpoint-{step}"
        )
        self._thread.start()

    def wait(self) -> None:
        """Until nothing is being written. Raises what the thread died of, if that was not the disk."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def require(self, step: int) -> None:
        """Wait, and make sure that ``step`` is on the disk.

        Raises:
            ValueError: it could not be written; says why and how much space it needs.
        """
        self.wait()
        if self._written != step:
            raise ValueError(
                f"{self._problem or f'{self.folder}: step {step} was never saved'}; make room and start the same"
                " command again"
            )

    def _write(
        self, step: int, tensors: Mapping[str, Any], meta: Mapping[str, Any], ready: torch.cuda.Event | None
    ) -> None:
        try:
            save(self.folder, step, _to_host(tensors, ready), meta, self.keep)
            self._written = step
        except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
            needs = f"it needs {_size(tensors) / MB:.1f} MB{_free(self.folder)}"
            self._problem = f"{self.folder}: the checkpoint of step {step} could not be written ({error}); {needs}"
            log.warning("%s. Training goes on; the last good state is %s", self._problem, _newest(self.folder))
        except BaseException as error:
            self._error = error


def _map(state: Any, change: Any) -> Any:
    if isinstance(state, Tensor):
        return change(state)
    if isinstance(state, Mapping):
        return {key: _map(value, change) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_map(value, change) for value in state)
    return state


def _tensors(state: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _map(state, found.append)
    return found


def _record_event(tensors: Any) -> torch.cuda.Event | None:
    """When the device has made the copies: its work is asynchronous, and the writer's thread must not read before."""
    if not any(tensor.is_cuda for tensor in _tensors(tensors)):
        return None
    event = torch.cuda.Event()
    event.record()
    return event


def _to_host(tensors: Any, ready: torch.cuda.Event | None) -> Any:
    """On a stream of its own, so that the training's stream does not wait for the bus."""
    if ready is None:
        return tensors
    stream = torch.cuda.Stream()
    stream.wait_event(ready)
    with torch.cuda.stream(stream):
        return _map(tensors, lambda tensor: tensor.cpu())


def _size(tensors: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors(tensors))


def _free(folder: Path) -> str:
    try:
        return f", {shutil.disk_usage(folder).free / MB:.1f} MB are free"
    except OSError:
        return ""


def _newest(folder: Path) -> str:
    try:
        found = retention.steps(folder)
    except OSError:
        return "unknown"
    return f"step {found[-1][0]}" if found else "the start"
