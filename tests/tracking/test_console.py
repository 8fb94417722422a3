"""Log lines for a pipe, a bar for a terminal, warnings from every rank."""

import io
import logging
import os
import pty
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from esl_dist.runs.events import Train
from esl_dist.tracking import console
from esl_dist.tracking.console import Console, Progress, duration, setup_logging


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    package = logging.getLogger("esl_dist")
    before = (list(package.handlers), package.propagate, package.level, logging.raiseExceptions)
    yield
    for handler in package.handlers:
        handler.close()
    package.handlers, package.propagate, package.level, logging.raiseExceptions = before


def record(step: int) -> Train:
    figures = {"loss/seg": 0.51234, "loss/adv": 2.0, "images_per_second": 8.25, "data_wait": 0.25}
    return Train("align", step, 100, figures=figures)


def test_step_lines_tell_losses_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    setup_logging(True, None)
    now = iter([0.0, 20.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    progress = Progress()
    progress.train(record(20))
    progress.train(record(40))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "align 20/100  seg 0.5123  adv 2  8.2 img/s  25% waiting for data",
        "align 40/100  seg 0.5123  adv 2  8.2 img/s  25% waiting for data  1:00 left",
    ]


def test_the_bar_is_for_terminals_only() -> None:
    pipe = io.StringIO()
    Console(pipe).bar("half")
    assert pipe.getvalue() == ""
    main, side = pty.openpty()
    with os.fdopen(side, "w") as terminal:
        shown = Console(terminal)
        shown.bar("[##..]")
        shown.emit(logging.makeLogRecord({"msg": "a line"}))
        shown.bar("")
        terminal.flush()
        expected = "\r\x1b[2K[##..]\r\x1b[2Ka line\r\n[##..]\r\x1b[2K"
        text = ""
        while (
            len(text) < len(expected) and select.select([main], [], [], 10)[0]
        ):  # a terminal hands over what it has, not all
            text += os.read(main, 4096).decode()
    os.close(main)
    assert text == expected


def test_ranks_and_the_log_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("esl_dist.somewhere")
    setup_logging(True, tmp_path / "run")
    log.info("hello")
    assert capsys.readouterr().err == "hello\n" and "INFO hello" in (tmp_path / "run" / "log.txt").read_text()
    monkeypatch.setenv("RANK", "3")
    setup_logging(False, tmp_path / "run")
    log.info("hidden")
    log.warning("bad file")
    assert (
        capsys.readouterr().err == "rank 3: bad file\n" and "bad file" not in (tmp_path / "run" / "log.txt").read_text()
    )


def test_a_log_file_that_cannot_be_made_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    setup_logging(True, tmp_path / "file")
    assert "cannot be written" in capsys.readouterr().err


def test_durations() -> None:
    assert [duration(s) for s in (0, 59.6, 187, 7387)] == ["0:00", "1:00", "3:07", "2:03:07"]
