"""What a person sees: clean lines from rank 0, warnings from everybody, a bar with the time left on a terminal."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from esl_dist.runs import RunFolder
from esl_dist.runs.events import Train
from esl_dist.tracking.clock import Clock, Left
from esl_dist.tracking.losses import explained
from esl_dist.tracking.paint import painter

ROOT = "esl_dist"
STEPS = "progress"
"""Logger of the lines that a terminal shows as one line."""
_BAR = 24
_LEVELS = {logging.WARNING: "yellow", logging.ERROR: "red"}


class Console(logging.StreamHandler[TextIO]):
    """Log lines on a stream; on a terminal warnings have a colour, and one line stays below them in place of a line a
    step.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream or sys.stderr)
        self._bar = ""
        self._paint = painter(self.stream)

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty()

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return self._paint(text, _LEVELS[record.levelno]) if record.levelno in _LEVELS else text

    def emit(self, record: logging.LogRecord) -> None:
        if self.is_terminal and record.name == f"{ROOT}.{STEPS}":
            return
        if self._bar:
            self.stream.write("\r\x1b[2K")
        super().emit(record)
        self._draw()

    def bar(self, text: str) -> None:
        """Replace the bar (empty removes it); does nothing where the stream is not a terminal."""
        if self.is_terminal and (text or self._bar):
            self.stream.write("\r\x1b[2K")
            self._bar = text[: self._columns()]
            self._draw()

    def _columns(self) -> int:
        """What a line of the terminal holds without a break; as much as one likes where it does not say."""
        try:
            columns = os.get_terminal_size(self.stream.fileno()).columns
        except OSError:
            columns = 0
        return columns - 1 if columns else sys.maxsize

    def _draw(self) -> None:
        if self._bar:
            name, space, rest = self._bar.partition(" ")
            self.stream.write(self._paint(name, "bold") + space + rest)
            self.stream.flush()


def setup_logging(is_main: bool, run_dir: Path | None) -> None:
    """Log lines of rank 0 to stderr (and ``run_dir/log.txt``); of other ranks warnings only, with their number in
    front.
    """
    package = logging.getLogger(ROOT)
    for old in list(package.handlers):
        package.removeHandler(old)
        old.close()
    package.propagate = False
    package.setLevel(logging.DEBUG if os.environ.get("ESL_DIST_DEBUG") else logging.INFO)
    rank = os.environ.get("RANK", "0")
    console = Console()
    console.setFormatter(logging.Formatter("%(message)s" if is_main else f"rank {rank}: %(message)s"))
    console.setLevel(logging.NOTSET if is_main else logging.WARNING)
    package.addHandler(console)
    if is_main and run_dir is not None:
        try:
            run_dir.mkdir(parents=True, exist_ok=True)
            file = logging.FileHandler(RunFolder(run_dir).log, encoding="utf-8")
        except OSError as error:
            package.warning("%s cannot be written (%s); log lines appear here only", RunFolder(run_dir).log, error)
            return
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        package.addHandler(file)
    # A full disk under log.txt must not print a traceback at every line.
    logging.raiseExceptions = False


class Progress:
    """Train events as log lines with rate and time left; on a terminal as one live line a stage instead."""

    def __init__(self, explain: bool = False) -> None:
        self._log = logging.getLogger(f"{ROOT}.{STEPS}")
        self._clock = Clock()
        self._explain = explain
        self._explained: set[str] = set()

    def expects(self, steps: Mapping[str, int]) -> None:
        """The stages of the run in their order, with their steps: what the run's time is told from."""
        self._clock.expects(steps)

    def train(self, event: Train) -> None:
        """Show a step's losses, the rate, and the time left."""
        stage, step, steps, record = event.stage, event.step, event.steps, event.figures
        losses = {key.removeprefix("loss/"): value for key, value in record.items() if key.startswith("loss/")}
        if self._explain:
            self._tell(losses)
        left = _left(self._clock.read(stage, step, steps))
        of = f"/{steps}" if steps else ""
        rate = f"  {record['images_per_second']:.1f} img/s" if record.get("images_per_second") is not None else ""
        waiting = float(record.get("data_wait") or 0)
        wait = f"  {waiting:.0%} waiting for data" if waiting >= 0.05 else ""
        shown = "  ".join(f"{name} {_number(value)}" for name, value in losses.items())
        self._log.info("%s %d%s  %s%s%s%s", stage, step, of, shown, rate, wait, left)
        for console in self._consoles():
            console.bar(_live(stage, step, steps, f"{left}{rate}{wait}", shown) if 0 < step < steps else "")

    def clear(self) -> None:
        """Take the bar away."""
        for console in self._consoles():
            console.bar("")

    def _tell(self, losses: Iterable[str]) -> None:
        """A line on each loss that was not seen before."""
        for name in losses:
            if name not in self._explained:
                self._explained.add(name)
                logging.getLogger(ROOT).info("  %s: %s", name, explained(name) or "a loss of your own")

    @staticmethod
    def _consoles() -> list[Console]:
        return [handler for handler in logging.getLogger(ROOT).handlers if isinstance(handler, Console)]


def _left(left: Left) -> str:
    if left.stage is None:
        return ""
    run = "" if left.run is None else f", {duration(left.run)} for the run"
    return f"  {duration(left.stage)} left{run}"


def _live(stage: str, step: int, steps: int, state: str, losses: str) -> str:
    filled = _BAR * step // steps
    return f"{stage} [{'#' * filled}{'.' * (_BAR - filled)}] {step}/{steps}{state}  {losses}"


def duration(seconds: float) -> str:
    """``3:07`` or ``2:03:07``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
