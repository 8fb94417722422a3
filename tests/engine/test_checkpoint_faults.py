"""A disk that fails at each system call in turn, and ``kill -9`` at random moments: the last good state stays, nothing
half-written shows.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from esl_dist import atomic
from esl_dist.engine import checkpoint
from tests.engine import sample
from tests.ranks import ROOT

CALLS = ("write_some", "sync_file", "rename")


class Disk:
    """The real disk, but for its call number ``fail_at``; counts the calls."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, fail_at: int = -1, code: int = errno.ENOSPC, forever: bool = False
    ) -> None:
        self.calls = 0
        for name in CALLS:
            monkeypatch.setattr(atomic, name, self._wrap(getattr(atomic, name), fail_at, code, forever))

    def _wrap(self, real: Callable[..., Any], fail_at: int, code: int, forever: bool) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls - 1 == fail_at or (forever and self.calls > fail_at >= 0):
                raise OSError(code, os.strerror(code))
            return real(*arguments)

        return call


def state(step: int) -> dict[str, Any]:
    """Two files, one larger than a write buffer."""
    return {"optim": sample.state()["optim"], "segmenter": {"w": torch.full((400_000,), float(step))}}


def assert_intact(folder: Path, *allowed: int) -> None:
    """What is visible is valid and holds what was saved under its name; no leftovers."""
    found, rejected = checkpoint.newest_valid(folder)
    assert found is not None and not rejected
    content, meta = checkpoint.load(found)
    assert meta["step"] in allowed
    assert sample.equal(content, state(meta["step"]))
    assert all(path.name.startswith("step_") for path in folder.iterdir())


def count_calls(tmp_path: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        checkpoint.save(tmp_path / "counted", 1, state(1), {}, keep=1)
        return disk.calls


@pytest.mark.parametrize(
    ("code", "forever"),
    [(errno.ENOSPC, False), (errno.EIO, False), (errno.EROFS, True)],
    ids=["ENOSPC", "EIO", "EROFS-from-then-on"],
)
def test_each_call_of_a_save_fails_in_turn(tmp_path: Path, code: int, forever: bool) -> None:
    calls = count_calls(tmp_path)
    assert calls >= 3 * 2 + 3, "write and sync of two files and the manifest, sync of two folders, a rename"
    for call in range(calls):
        folder = tmp_path / str(call)
        checkpoint.save(folder, 10, state(10), {}, keep=1)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, call, code, forever)
            with pytest.raises((OSError, RuntimeError)):
                checkpoint.save(folder, 20, state(20), {}, keep=1)
        # The very last call is the parent's fsync: the new one is complete by then.
        assert_intact(folder, *((10, 20) if call == calls - 1 else (10,)))


@pytest.mark.parametrize("background", [True, False])
def test_training_goes_on_and_the_message_says_what_was_needed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, background: bool
) -> None:
    writer = checkpoint.Writer(tmp_path, keep=2, background=background)
    writer.submit(10, state(10), {})
    writer.wait()
    calls = count_calls(tmp_path / "elsewhere")
    for call in range(calls):
        caplog.clear()
        with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.WARNING):
            Disk(patch, call, errno.ENOSPC)
            writer.submit(20 + call, state(20 + call), {})  # must not raise
            writer.wait()
        (message,) = [record.getMessage() for record in caplog.records]
        assert (
            f"step {20 + call}" in message
            and "No space left on device" in message
            and "1.6 MB" in message
            and "MB are free" in message
        )
        assert "last good state is step 10" in message or call == calls - 1
        with pytest.raises(ValueError, match="make room"):
            writer.require(20 + call)
    writer.submit(100, state(100), {})
    writer.require(100)
    assert checkpoint.newest_valid(tmp_path)[0] == tmp_path / "step_00000100"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_really_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Torch turns the write's OSError into errors of its own; whatever it is, it must be a warning."""
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(atomic, "write_some", lambda fd, data: os.write(full, data))
    writer = checkpoint.Writer(tmp_path, keep=1)
    writer.submit(1, state(1), {})
    writer.wait()
    os.close(full)
    assert "No space left" in caplog.text
    assert checkpoint.newest_valid(tmp_path) == (None, [])


def test_each_call_of_a_small_file_fails_in_turn(tmp_path: Path) -> None:
    path = tmp_path / "done.json"
    atomic.write_json(path, {"step": 1})
    with pytest.MonkeyPatch.context() as patch:
        calls = Disk(patch)
        atomic.write_json(path, {"step": 1})
    for call in range(calls.calls):
        for code in (errno.ENOSPC, errno.EIO):
            with pytest.MonkeyPatch.context() as patch:
                Disk(patch, call, code)
                with pytest.raises(OSError):
                    atomic.write_json(path, {"step": 2})
            last = call == calls.calls - 1
            assert json.loads(path.read_text()) == {"step": 2 if last else 1}
            assert os.listdir(tmp_path) == ["done.json"]
            atomic.write_json(path, {"step": 1})


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "write_some", lambda fd, data: os.write(fd, data[:1000]))
    checkpoint.save(tmp_path, 1, state(1), {}, keep=1)
    assert_intact(tmp_path, 1)


def save_without_end(folder: Path) -> None:
    """Goes on from what is there and saves as fast as the disk allows."""
    found = checkpoint.newest_valid(folder)[0]
    step = checkpoint.load(found)[1]["step"] if found else 0
    writer = checkpoint.Writer(folder, keep=2)
    while True:
        step += 10
        writer.submit(step, state(step), {})


def kill_again_and_again(folder: Path, seconds: float) -> dict[str, int]:
    """Fork such a saver, kill it at a random moment, look at what is there; runs in a process of its own that has no
    threads to lose.
    """
    draw = random.Random(0)
    kills = aside = step = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and kills < 60:
        child = os.fork()
        if child == 0:
            save_without_end(folder)
        time.sleep(draw.uniform(0.01, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills += 1
        aside += any(path.name.startswith(".step_") for path in folder.iterdir())
        found, rejected = checkpoint.newest_valid(folder)
        assert not rejected, rejected
        if found is not None:
            content, meta = checkpoint.load(found)
            assert sample.equal(content, state(meta["step"])) and meta["step"] >= step
            step = meta["step"]
        visible = [path for path in folder.iterdir() if path.name.startswith("step_")]
        assert all(checkpoint.verify(path) == [] for path in visible)
    checkpoint.save(folder, step + 10, state(step + 10), {}, keep=2)
    assert len(list(folder.iterdir())) == 2, "the next save sweeps what kills left"
    return {"kills": kills, "aside": aside, "step": step}


def test_kill_9_during_saves(tmp_path: Path) -> None:
    """A process that does nothing but save is killed again and again: what is there afterwards is always valid and what
    was saved.
    """
    call = (
        "import json, sys; from pathlib import Path; from tests.engine.test_checkpoint_faults import"
        " kill_again_and_again as f; print(json.dumps(f(Path(sys.argv[1]), 8)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", call, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    counted = json.loads(done.stdout)
    assert counted["kills"] >= 5 and counted["step"] > 0
    assert counted["aside"] > 0, "no kill fell into a save"
