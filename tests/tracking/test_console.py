"""Log lines for a pipe, a bar for a terminal, warnings from every rank."""

import fcntl
import io
import logging
import os
import pty
import re
import select
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from esl_dist.runs.events import Train
from esl_dist.tracking import clock
from esl_dist.tracking.console import Console, Progress, duration, setup_logging
from esl_dist.tracking.losses import explained, title


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
    monkeypatch.setattr(clock.time, "monotonic", lambda: next(now))
    progress = Progress()
    progress.train(record(20))
    progress.train(record(40))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "align 20/100  seg 0.5123  adv 2  8.2 img/s  25% waiting for data",
        "align 40/100  seg 0.5123  adv 2  8.2 img/s  25% waiting for data  1:00 left",
    ]


def on_terminal(act: Callable[[TextIO], None], until: str, columns: int = 0) -> str:
    """What a terminal is sent, up to its end ``until``."""
    main, side = pty.openpty()
    if columns:
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 25, columns, 0, 0))
    with os.fdopen(side, "w") as terminal:
        act(terminal)
        terminal.flush()
        text = ""
        while not text.endswith(until) and select.select([main], [], [], 10)[0]:
            text += os.read(main, 4096).decode()  # a terminal hands over what it has, not all
    os.close(main)
    return text


@pytest.mark.parametrize("off", ["NO_COLOR", "TERM", "rich"])
def test_the_bar_is_for_terminals_only(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1" if off == "NO_COLOR" else "")
    monkeypatch.setenv("TERM", "dumb" if off == "TERM" else "xterm-256color")
    if off == "rich":
        monkeypatch.setitem(sys.modules, "rich.console", None)
    pipe = io.StringIO()
    Console(pipe).bar("half")
    assert pipe.getvalue() == ""

    def act(terminal: TextIO) -> None:
        shown = Console(terminal)
        shown.bar("[##..]")
        shown.emit(logging.makeLogRecord({"msg": "a line", "levelno": logging.WARNING}))
        shown.bar("")

    expected = "\r\x1b[2K[##..]\r\x1b[2Ka line\r\n[##..]\r\x1b[2K"
    assert on_terminal(act, expected) == expected


def test_a_terminal_has_colours_and_one_line_for_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")

    def act(terminal: TextIO) -> None:
        setup_logging(True, None)
        (handler,) = logging.getLogger("esl_dist").handlers
        assert isinstance(handler, Console)
        handler.setStream(terminal)
        Console.__init__(handler, terminal)
        progress = Progress()
        progress.train(record(20))
        progress.train(record(40))
        logging.getLogger("esl_dist.somewhere").warning("look")
        progress.clear()
        terminal.write("end")

    text = on_terminal(act, "end", columns=40)
    assert "\x1b[33mlook" in text and "\x1b[1malign\x1b[0m [####" in text and "align 20/100  seg" not in text
    bars = [
        part
        for part in re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\r\x1b[2K").split("\r\x1b[2K")
        if part.startswith("align")
    ]
    assert len(bars) == 3 and all(len(bar) <= 39 for bar in bars)


def test_the_time_of_the_run_counts_the_stages_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 10.0, 40.0, 60.0])
    monkeypatch.setattr(clock.time, "monotonic", lambda: next(now))
    made = clock.Clock()
    made.expects({"source": 100, "align": 100, "oracle": 50})
    assert made.read("source", 50, 100) == (None, None)  # resumed at an unknown step
    assert made.read("source", 60, 100) == (40.0, 40.0 + 1.0 * 150)
    assert made.read("align", 20, 100) == (None, None)
    assert made.read("align", 40, 100) == (60.0, 60.0 + 60 / 50 * 50)


def test_losses_are_explained_once_if_asked(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(True, None)
    progress = Progress(explain=True)
    for step in (20, 40):
        progress.train(Train("align", step, 100, figures={"loss/d_aux_target": 0.7, "loss/mine": 1.0}))
    said = capsys.readouterr().err
    assert said.count("  d_aux_target: Discriminator, target, aux head: ln 2 = 0.69") == 1
    assert said.count("  mine: a loss of your own") == 1


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("source_main", "Cross-entropy on the source"),
        ("mix_aux", "Cross-entropy on mixed images, aux head"),
        ("d_main_source", "Discriminator, source"),
        ("cycle_target", "Cycle consistency, target"),
        ("mmdl_source_hinge", "Metric loss of the modes, source, hinge"),
        ("iw_maxsquare_main", "Maximum squares, image-weighted"),
        ("my_loss", "my loss"),
    ],
)
def test_titles_of_losses(name: str, called: str) -> None:
    assert title(name) == called and bool(explained(name)) == (name != "my_loss")


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
