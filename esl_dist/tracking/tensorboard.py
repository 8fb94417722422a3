"""TensorBoard beside MLflow: the same points under the same names, and the strips of each scored step."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from esl_dist.runs import RunFolder, events, lines
from esl_dist.runs.events import Eval, Event

log = logging.getLogger(__name__)

FLUSH_S = 10


class EventFiles:
    """Event files in ``<run>/tensorboard``. Nothing here raises: what fails is said once, and ``metrics.jsonl`` keeps
    everything.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run, self._writer, self._failed = run, None, False
        self._shown: set[tuple[str, int]] = set()

    @classmethod
    def start(cls, wanted: bool, run_dir: Path) -> EventFiles | None:
        """None where they are not wanted, or cannot be written, which one line says."""
        if not wanted:
            return None
        if importlib.util.find_spec("tensorboardX") is None:
            log.info(
                "tracking: tensorboardX is not installed, so there are no event files (pip install "
                "'esl_dist[tensorboard]')"
            )
            return None
        return cls(RunFolder(run_dir))

    def record(self, event: Event, time: float) -> None:
        """The points of an event; of a score also the strips that came with it. ``time``: Unix seconds."""
        found = events.points(event, time)
        if not found or self._failed:
            return
        try:
            writer = self._open()
            for point in found:
                writer.add_scalar(point.name, point.value, point.step, walltime=point.time_ms / 1000)
            if isinstance(event, Eval):
                self._pictures(writer, event, time)
        except Exception as error:  # a tracker may fail in any way, and none of them may matter
            self._failed = True
            log.warning(
                "tracking: TensorBoard gets nothing more (%s); metrics.jsonl keeps everything",
                str(error).partition("\n")[0],
            )

    def again(self) -> None:
        """Write all of ``metrics.jsonl`` anew: a resume dropped lines, which event files cannot forget."""
        self.close()
        self._shown.clear()
        shutil.rmtree(self._run.tensorboard, ignore_errors=True)
        try:
            for line in lines.read(self._run.metrics):
                if line.event is not None:
                    self.record(line.event, line.time)
        except OSError as error:
            log.warning("tracking: TensorBoard lacks what was before (%s)", error)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _open(self) -> Any:
        if self._writer is None:
            made = importlib.import_module("tensorboardX").SummaryWriter
            self._writer = made(logdir=str(self._run.tensorboard), flush_secs=FLUSH_S, write_to_disk=True)
        return self._writer

    def _pictures(self, writer: Any, event: Eval, time: float) -> None:
        """Those of a step, with the first of its scores."""
        folder, place = self._run.stage(event.stage), (event.stage, event.step)
        if place in self._shown:
            return
        self._shown.add(place)
        for name in folder.stripped(event.step):
            with Image.open(folder.strip(event.step, name)) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            writer.add_image(f"{event.stage}/strip/{name}", pixels, event.step, walltime=time, dataformats="HWC")
