"""What a run records: ``metrics.jsonl`` is the truth, the console and MLflow are mirrors of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from esl_dist.config.schema import TrackingConfig
from esl_dist.runs import RunFolder
from esl_dist.runs.events import Eval, Event, Stage, Train
from esl_dist.tracking.console import Progress, duration
from esl_dist.tracking.jsonl import MetricsLog
from esl_dist.tracking.mlflow import Mirror
from esl_dist.tracking.tensorboard import EventFiles

log = logging.getLogger(__name__)

__all__ = ["Tracker"]


class Tracker:
    """Records the events of a run on rank 0; on other ranks every call returns at once.

    ``params`` (option → text) describe the run on the tracking server; with ``explain`` each loss is explained where it
    first appears. Nothing here raises for a server or a disk that
    fails.
    """

    def __init__(
        self,
        run_dir: Path,
        config: TrackingConfig,
        run_name: str,
        params: dict[str, str],
        is_main: bool,
        explain: bool = False,
    ) -> None:
        self._log: MetricsLog | None = None
        self._mirror: Mirror | None = None
        self._event_files: EventFiles | None = None
        self._progress = Progress(explain)
        if is_main:
            self._log = MetricsLog(RunFolder(run_dir).metrics)
            self._mirror = Mirror.start(config, run_dir, run_name, params)
            self._event_files = EventFiles.start(config.tensorboard, run_dir)

    def expects(self, steps: Mapping[str, int]) -> None:
        """The stages of the run in their order, with their steps, for the time that is left."""
        self._progress.expects(steps)

    def record(self, event: Event) -> None:
        """Append one line to ``metrics.jsonl`` and show it if it is for people."""
        if self._log is None:
            return
        time = self._log.append(event)
        if self._event_files is not None:
            self._event_files.record(event, time)
        match event:
            case Train():
                self._progress.train(event)
            case Eval(miou=miou) if miou is not None:
                log.info(
                    "%s: mIoU %.2f %% on %s, %s BN statistics",
                    event.stage,
                    100 * miou,
                    event.split,
                    event.bn_statistics,
                )
            case Stage():
                self._progress.clear()
                self._log.sync()
                if event.status == "done":
                    log.info("%s: done in %s", event.stage, duration(event.seconds or 0))

    def found(self, stage: str) -> None:
        """A stage is finished already. The log says so where it does not know the stage, which another run trained; a
        run that is started again appends nothing.
        """
        if self._log is not None and not self._log.knows(stage):
            self.record(Stage(stage, "skipped"))

    def truncate(self, stage: str, step: int) -> None:
        """A resume goes on from ``step``: drop the lines of ``stage`` beyond it, so that every step appears once."""
        if self._log is not None:
            dropped = self._log.truncate_after(stage, step)
            if dropped:
                log.info("%s: %d line(s) beyond step %d will be written again", stage, dropped, step)
                if self._event_files is not None:
                    self._event_files.again()

    def close(self, status: str) -> None:
        """End the record with ``status`` FINISHED, FAILED or KILLED; waits a bounded time for the tracking server."""
        if self._log is None:
            return
        self._progress.clear()
        self._log.close()
        if self._event_files is not None:
            self._event_files.close()
        if self._mirror is not None:
            self._mirror.close(status)
            self._mirror = None
        self._log = None
