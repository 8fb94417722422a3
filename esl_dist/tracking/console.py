"""What a person sees: clean lines from rank 0, warnings from everybody, a bar with the time left on a terminal."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from esl_dist.runs import RunFolder
from esl_dist.runs.events import Train

ROOT = "esl_dist"


class Console(logging.StreamHandler[TextIO]):
    """Log lines on a stream; on a terminal a bar stays below them."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream or sys.stderr)
        self._bar = ""

    @property
    def is_terminal(self) -> bool:
        return self.stream.isatty()

    def emit(self, record: logging.LogRecord) -> None:
        if self._bar:
            self.stream.write("\r\x1b[2K")
        super().emit(record)
        self._draw()

    def bar(self, text: str) -> None:
        """Replace the bar (empty removes it); does nothing where the stream is not a terminal."""
        if self.is_terminal and (text or self._bar):
            self.stream.write("\r\x1b[2K")
            self._bar = text
            self._draw()

    def _draw(self) -> None:
        if self._bar:
            self.stream.write(self._bar)
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
    """Train events as log lines with rate and time left, and as a bar on a terminal."""

    def __init__(self) -> None:
        self._log = logging.getLogger(f"{ROOT}.progress")
        self._stage = ""
        self._began = (0, 0.0)

    def train(self, event: Train) -> None:
        """Show a step's losses, the rate, and the time left."""
        stage, step, steps, record = event.stage, event.step, event.steps, event.figures
        now = time.monotonic()
        left = ""
        if stage != self._stage:
            self._stage, self._began = stage, (step, now)
        elif steps and step > self._began[0]:
            seconds = (now - self._began[1]) / (step - self._began[0]) * (steps - step)
            left = f"  {duration(seconds)} left"
        losses = "  ".join(
            f"{key.removeprefix('loss/')} {_number(value)}" for key, value in record.items() if key.startswith("loss/")
        )
        of = f"/{steps}" if steps else ""
        rate = f"  {record['images_per_second']:.1f} img/s" if record.get("images_per_second") is not None else ""
        waiting = float(record.get("data_wait") or 0)
        wait = f"  {waiting:.0%} waiting for data" if waiting >= 0.05 else ""
        self._log.info("%s %d%s  %s%s%s%s", stage, step, of, losses, rate, wait, left)
        self._bar(stage, step, steps, left)

    def clear(self) -> None:
        """Take the bar away."""
        for console in self._consoles():
            console.bar("")

    def _bar(self, stage: str, step: int, steps: int, left: str) -> None:
        filled = 30 * step // steps if steps else 0
        for console in self._consoles():
            console.bar(
                f"{stage} [{'#' * filled}{'.' * (30 - filled)}] {step}/{steps}{left}" if 0 < step < steps else ""
            )

    @staticmethod
    def _consoles() -> list[Console]:
        return [handler for handler in logging.getLogger(ROOT).handlers if isinstance(handler, Console)]


def duration(seconds: float) -> str:
    """``3:07`` or ``2:03:07``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
