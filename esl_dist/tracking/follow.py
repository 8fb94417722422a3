"""The process that mirrors ``metrics.jsonl``: it follows the file, so the queue is the file itself and memory stays
flat.

It is a process of its own, not a thread: nothing that MLflow does (seconds of imports, blocking calls, its own threads)
can reach the training step, the loader's forks or the end of the program.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from esl_dist.processes import end_with
from esl_dist.runs import RunFolder, events, lines
from esl_dist.tracking.backend import Backend, MlflowBackend, reason
from esl_dist.tracking.state import MirrorState, only_sender

log = logging.getLogger(__name__)

POLL_S = 1.0
# MLflow takes up to 1000 metrics in a call.
BATCH = 500
FIRST_BACKOFF_S, LONGEST_BACKOFF_S = 2.0, 60.0


RUNNING, FINISHED = "RUNNING", "FINISHED"


class _Batch:
    """What is sent together: points by the stage whose run shows them, of the run as a whole under an empty name."""

    def __init__(self) -> None:
        self.points: dict[str, list[events.Point]] = {}
        self.marks: dict[str, float] = {}
        self.scored: dict[tuple[str, int], None] = {}
        self.statuses: dict[str, tuple[str, int]] = {}
        self.size = 0

    def stage(self, event: events.Stage, time: float) -> None:
        if event.status != "skipped":
            self.statuses[event.stage] = (FINISHED if event.status == "done" else RUNNING, int(1000 * time))

    def add(self, event: events.Event, time: float, place: events.Series) -> None:
        stage = event.stage if isinstance(event, events.STEP_EVENTS) else ""
        for name, points in ((stage, events.own(event, time)), ("", events.summary(event, time))):
            if points:
                self.points.setdefault(name, []).extend(points)
                self.size += len(points)
        self.marks[place.key] = place.mark
        if isinstance(event, events.Eval) and stage in self.points:
            self.scored[event.stage, event.step] = None


class Follower:
    """Sends what a run's file holds and the server has not: every point once and in order, whatever happens in between.
    Every stage has a run of its own inside the run's, so that one chart holds the same loss of all stages.

    A step that a resume repeats is sent once: its first value stays (the resumed run is bit-identical where arithmetic
    allows it).
    """

    def __init__(
        self, run_dir: Path, state: MirrorState, backend: Backend, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._run_dir, self._state, self._backend, self._clock = run_dir, state, backend, clock
        self._path = RunFolder(run_dir).metrics
        self._offset = 0
        self._inode = -1
        self._open = False
        self._told: dict[str, str] = {}
        self._pictures = True
        self._backoff = 0.0
        self._not_before = 0.0

    def poll(self, patient: bool = True) -> bool:
        """Send what is new, in batches; False if the server refused (it is asked again after a growing pause, unless
        not ``patient``).
        """
        if patient and self._clock() < self._not_before:
            return False
        try:
            self._connect()
            while self._send_batch():
                pass
        except Exception as error:  # a tracker may fail in any way, and none of them may matter
            self._refused(error)
            return False
        if self._backoff:
            log.warning("tracking: %s answers again; what it missed was sent", self._state.uri)
            self._backoff = 0.0
        return True

    def finish(self, status: str) -> bool:
        """Send the rest, the artifacts and the end of the run; False if something is left for ``replay``."""
        if not self.poll(patient=False):
            return False
        try:
            for nested in self._state.stages:
                if self._told.get(nested) != FINISHED:
                    self._tell(nested, status, None)
            if not self._state.owned:
                return True
            folder = RunFolder(self._run_dir)
            artifacts = [(path, "") for path in (folder.config, folder.report, folder.log) if path.is_file()]
            for path in sorted(folder.path.glob("*")):
                stage = folder.stage(path.name)
                artifacts += [(stage.prediction(name), f"predictions/{stage.name}") for name in stage.predicted()]
            self._backend.finish(self._state.run_id, status, artifacts)
        except Exception as error:
            self._refused(error)
            return False
        return True

    def left(self) -> int:
        """Lines with points that were not sent."""
        try:
            places = (_series(line) for line in lines.read(self._path, complete=True))
            return sum(1 for place in places if place is not None and not self._was_sent(place))
        except OSError:
            return 0

    def _connect(self) -> None:
        if self._open:
            return
        self._state.run_id = self._backend.open(self._state.run_id)
        self._state.page = self._backend.page(self._state.run_id)
        self._save()
        if not self._state.params_sent:
            self._backend.params(self._state.run_id, self._state.params)
            self._state.params_sent = True
            self._save()
        self._open = True

    def _send_batch(self) -> bool:
        """Send one batch of new lines; False when there is none."""
        self._notice_rewrite()
        batch = _Batch()
        offset = self._offset
        try:
            for line in lines.read(self._path, self._offset, complete=True):
                offset += len(line.raw)
                if isinstance(line.event, events.Stage):
                    batch.stage(line.event, line.time)
                place = _series(line)
                if place is None or self._was_sent(place) or batch.marks.get(place.key, -1.0) >= place.mark:
                    continue
                assert line.event is not None
                batch.add(line.event, line.time, place)
                if batch.size >= BATCH:
                    break
        except FileNotFoundError:
            return False
        for stage, points in batch.points.items():
            run_id = self._run_of(stage, points) if stage else self._state.run_id
            for start in range(0, len(points), BATCH):
                self._backend.send(run_id, points[start : start + BATCH])
        if batch.size:
            self._state.sent.update(batch.marks)
            self._save()
            self._show(batch.scored)
        for stage, (status, time_ms) in batch.statuses.items():
            self._tell(stage, status, time_ms)
        self._offset = offset
        return bool(batch.size)

    def _run_of(self, stage: str, points: Sequence[events.Point]) -> str:
        """The run of a stage, which its first point begins."""
        if stage not in self._state.stages:
            number = len(self._state.stages)
            self._state.stages[stage] = self._backend.nested(self._state.run_id, stage, number, points[0].time_ms)
            self._save()
        return self._state.stages[stage]

    def _tell(self, stage: str, status: str, time_ms: int | None) -> None:
        """How a stage's run stands; one that runs was begun so."""
        if stage in self._state.stages and self._told.get(stage, RUNNING) != status:
            self._backend.stands(self._state.stages[stage], status, time_ms)
            self._told[stage] = status

    def _show(self, scored: Iterable[tuple[str, int]]) -> None:
        """The strips of scored steps. A server that stores no files costs them, not the points."""
        for stage, step in scored if self._pictures else ():
            folder = RunFolder(self._run_dir).stage(stage)
            try:
                for name in folder.stripped(step):
                    self._backend.picture(
                        self._state.stages[stage], folder.strip(step, name), f"predictions/{name}", step
                    )
            except Exception as error:
                self._pictures = False
                log.warning(
                    "tracking: %s takes no pictures (%s); they are in %s", self._state.uri, reason(error), folder.path
                )
                return

    def _was_sent(self, place: events.Series) -> bool:
        return place.mark <= self._state.sent.get(place.key, -1.0)

    def _notice_rewrite(self) -> None:
        """A resume rewrites the file without the lines beyond its checkpoint: read it from the start, the marks know
        what was sent.
        """
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return
        if now.st_ino != self._inode or now.st_size < self._offset:
            self._inode, self._offset = now.st_ino, 0

    def _save(self) -> None:
        try:
            self._state.save(self._run_dir)
        except OSError as error:  # a full disk: a server stores a repeated point once
            log.debug("tracking: %s", error)

    def _refused(self, error: Exception) -> None:
        if not self._backoff:
            log.warning(
                "tracking: %s does not take points (%s); metrics.jsonl keeps them all and they are sent when it"
                " answers",
                self._state.uri,
                reason(error),
            )
        self._backoff = min(max(2 * self._backoff, FIRST_BACKOFF_S), LONGEST_BACKOFF_S)
        self._not_before = self._clock() + self._backoff


def _series(line: lines.Line) -> events.Series | None:
    """Where a line belongs; None for one that holds no metric, or is damaged."""
    return None if line.event is None else events.series(line.event, line.time)


def main() -> int:
    """``follow RUN PARENT_PID``: follow until a line with the run's status comes in, or the parent is gone."""
    run_dir, parent = Path(sys.argv[1]), int(sys.argv[2])
    if not end_with(parent, signal.SIGKILL):  # where the kernel cannot, the loop notices
        return 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)  # the parent decides when this ends
    os.nice(10)  # training first
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    state = MirrorState.load(run_dir)
    if state is None:
        return 1
    follower = Follower(
        run_dir,
        state,
        MlflowBackend(os.environ.get("MLFLOW_TRACKING_URI") or state.uri, state.experiment, state.run_name),
    )
    while True:
        with only_sender(run_dir) as alone:
            while alone:
                ready, _, _ = select.select([sys.stdin], [], [], POLL_S)
                if ready:
                    status = sys.stdin.readline().strip()
                    return 0 if status and follower.finish(status) else 1
                if os.getppid() != parent:
                    return 1
                follower.poll()
        if os.getppid() != parent or select.select([sys.stdin], [], [], POLL_S)[0]:
            return 1


if __name__ == "__main__":
    sys.exit(main())
