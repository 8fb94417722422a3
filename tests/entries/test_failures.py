"""How an entry ends: one line and an exit code for what goes wrong, whatever becomes of the streams."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from esl_dist.entries import cli, ending
from esl_dist.entries.failures import explained, one_line
from esl_dist.errors import RunFailure, StoppedBySignal

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("optim.lr: bad\nvery"), 2, "optim.lr: bad very"),
        (RunFailure("cannot go on"), 1, "cannot go on"),
        (OSError(errno.ENOSPC, "x", "/a/b"), 1, "/a/b: no space left on device; free some, or write elsewhere"),
        (OSError(errno.EROFS, "x", "/a"), 1, "/a: read-only file system; write elsewhere"),
        (PermissionError(errno.EACCES, "x", "/a"), 2, "/a: permission denied; its owner or mode"),
        (FileNotFoundError(errno.ENOENT, "x", "/a"), 2, "/a: no such file or directory"),
        (
            OSError("Can't write data (file write failed: errno = 28, buf = 0)"),
            1,
            "the system: no space left on device",
        ),
        (MemoryError(), 1, "out of memory"),
        (RuntimeError("unable to write to file </torch_123_456>: No space left on device (28)"), 1, "/dev/shm is full"),
        (RuntimeError("[gloo/transport/tcp] Connection closed by peer [127.0.0.1]:4"), 1, "another rank ended"),
        (RuntimeError("write: No space left on device"), 1, "No space left on device; free some"),
    ],
)
def test_one_line_and_a_code(error: Exception, code: int, said: str) -> None:
    found = explained(error)
    assert found is not None and found[1] == code and said in one_line(found[0]) and "\n" not in one_line(found[0])


def test_a_fault_of_the_program_keeps_its_traceback() -> None:
    assert explained(KeyError("x")) is None and explained(RuntimeError("shapes differ")) is None
    assert len(one_line("word " * 1000)) <= 600


def end_of(main: Callable[[], int]) -> object:
    with pytest.raises(SystemExit) as end:
        cli.run(main)
    return end.value.code


def _raise(error: BaseException) -> int:
    raise error


@pytest.mark.parametrize(("command", "code"), [("train", 0), ("evaluate", 130), ("predict", 130), ("extract", 130)])
def test_a_signal_is_no_success_of_what_has_no_result_yet(command: str, code: int) -> None:
    def main() -> int:
        raise StoppedBySignal

    main.__module__ = f"esl_dist.entries.{command}"
    assert end_of(main) == code


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert end_of(lambda: 0) == 0 and end_of(lambda: 3) == 3
    assert end_of(lambda: _raise(StoppedBySignal())) == 0
    assert end_of(lambda: _raise(KeyboardInterrupt())) == 130
    assert end_of(lambda: _raise(SystemExit(7))) == 7
    assert capsys.readouterr().err == ""
    assert end_of(lambda: _raise(OSError(errno.ENOSPC, "x", "/a"))) == 1
    assert capsys.readouterr().err.startswith("esl_dist: error: /a: no space left")


def test_an_error_of_a_rank_other_than_the_first_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setattr(ending, "FIRST_RANK_S", 0.0)
    assert end_of(lambda: _raise(ValueError("mine"))) == 2
    assert capsys.readouterr().err == "esl_dist: error (rank 3): mine\n"
    agreed = ValueError("everybody's")
    agreed.every_rank = True  # type: ignore[attr-defined]
    assert end_of(lambda: _raise(agreed)) == 2
    assert capsys.readouterr().err == ""


PROGRAM = """
import sys
from esl_dist.entries import cli, ending
def main():
    import logging
    from esl_dist.tracking.console import setup_logging
    setup_logging(True, None)
    for number in range(2000):
        print("a line", number)
        logging.getLogger("esl_dist.x").info("a log line")
    with open(sys.argv[1], "w") as file:
        file.write("result")
    print("done", flush=True)
    return int(sys.argv[2])
cli.run(main)
"""


@pytest.mark.parametrize("streams", ["1>&- 2>&-", "1>/dev/full", "1>/dev/full 2>/dev/full", "| head -n1"])
@pytest.mark.parametrize("code", [3])
def test_streams_that_are_closed_or_full_cost_neither_result_nor_code(streams: str, code: int, tmp_path: Path) -> None:
    result = tmp_path / "result"
    body = f'set -o pipefail; "$0" -c "$1" {result} {code} {streams}; echo "${{PIPESTATUS[0]}}" >{tmp_path}/code'
    if streams.startswith("|"):
        body = f'"$0" -c "$1" {result} {code} {streams}; echo "${{PIPESTATUS[0]}}" >{tmp_path}/code'
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", body, sys.executable, PROGRAM], env=environment, capture_output=True, text=True
    )
    assert (tmp_path / "code").read_text().strip() == str(code), done.stderr
    assert result.read_text() == "result"
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    if "/dev/full" in streams and "2>" not in streams:
        assert "standard output could not be written (No space left on device)" in done.stderr
