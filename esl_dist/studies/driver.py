"""A study from its first trial, or from wherever it was left, to its last one."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from esl_dist.config import load
from esl_dist.config.secrets import without_password
from esl_dist.config.study import StudyConfig
from esl_dist.engine.guards import RunLock
from esl_dist.errors import RunFailure
from esl_dist.runs import StudyFolder
from esl_dist.studies import cluster, shared
from esl_dist.studies.child import STOP_S
from esl_dist.studies.curve import Curve, Point
from esl_dist.studies.mlflow import StudyRuns
from esl_dist.studies.prepare import Prepared, parts, prepare
from esl_dist.studies.reading import ENDED
from esl_dist.studies.record import TrialRecord, log_tail, short_names, text
from esl_dist.studies.results import table, write
from esl_dist.studies.suggest import Suggestions
from esl_dist.studies.trial import decided, environment
from esl_dist.synthetic.streets import ensure_pair
from esl_dist.tracking.console import duration
from esl_dist.tracking.mlflow import tracking_uri

log = logging.getLogger(__name__)

DONE_CODE, FAILED_CODE, STOPPED_CODE = 0, 1, 130


def run_study(study: StudyConfig) -> int:
    """Run every trial that is not finished yet; 0 when the study is complete, 1 when no trial has a score, 130 when it
    was stopped.

    Raises:
        ValueError: it cannot be run as it is; nothing was trained.
        RunFailure: Ray does not start, or nothing can be trained without what failed.
    """
    cluster.require()
    with RunLock(study.folder):
        StudyFolder(study.folder).stop.unlink(missing_ok=True)
        prepared = prepare(study)
        driver = Driver(prepared)
        if driver.left():
            with cluster.connected(study) as ray, _stop_on_signal(study.folder):
                driver.make_shared(ray)
                driver.run_trials(ray)
        return driver.close()


class Driver:
    """Sends the trials that are left through Ray, and says what becomes of them."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared, self._study, self._dir = prepared, prepared.study, prepared.dir.resolve()
        self._folder = StudyFolder(self._dir)
        self._said: dict[str, str] = {}
        self._suggestions: Suggestions | None = None
        self._cwd = os.getcwd()
        tracking = prepared.base.tracking
        if tracking.uri != without_password(tracking.uri):
            # What is written down has no password, so that the trials' trainings learn it here.
            os.environ["MLFLOW_TRACKING_URI"] = tracking.uri
        self._runs = (
            StudyRuns(self._dir, tracking_uri(tracking, self._study.folder.parent), tracking.experiment)
            if tracking.mlflow
            else None
        )
        records = prepared.records()
        self._total = self._study.trials if self._study.search == "optuna" else len(records)
        for record in records:
            self._said[record.id] = record.status
            if record.status == "failed":
                log.warning("trial %s cannot run: %s", record.id, record.reason)
        if any(record.is_final for record in records):
            log.info(
                "%s: %d of %d trials are done already", self._study.name, sum(r.is_final for r in records), self._total
            )

    def left(self) -> int:
        """Trials that are still to be run."""
        return self._total - sum(record.is_final for record in self._prepared.records())

    # -- shared work -----------------------------------------------------------------------------------------------

    def make_shared(self, ray: Any) -> None:
        """Make what trials share, each part as soon as its parent is there. Trials whose part fails fail with it, the
        others go on.
        """
        made = parts(self._prepared)
        self._make_data()
        todo = [part for part in made if shared.missing(self._dir, part)]
        for part in made:
            if part not in todo:
                log.info("shared %s (%s): found", part.key, ", ".join(part.entries))
        need = cluster.resources(self._study)
        make = ray.remote(num_cpus=need["CPU"], num_gpus=need.get("GPU", 0), max_retries=0)(_make)
        running: dict[str, Any] = {}
        for part in todo:
            log.info(
                "shared %s (%s%s): being made",
                part.key,
                ", ".join(part.entries),
                f" and {len(part.spools)} spool(s)" if part.spools else "",
            )
            running[part.key] = make.remote(self._dir, part, self._study, self._cwd, running.get(part.parent, ""))
        failed: dict[str, str] = {}
        for part in todo:
            try:
                reason = ray.get(running[part.key])
            except ray.exceptions.RayError as error:
                reason = str(error).splitlines()[0]
            if reason and reason != shared.STOPPED:
                failed[part.key] = reason
                log.warning("shared %s failed: %s", part.key, reason)
        if failed and self._study.search == "optuna":
            raise RunFailure(
                f"the shared stages failed: {next(iter(failed.values()))}"
            )  # every point that might be proposed needs them
        for record in self._prepared.records():
            chain = self._prepared.chains.get(record.id)
            if chain is not None and chain.part in failed and not record.is_final:
                folder = self._folder.trial(record.id)
                record.end(
                    "failed",
                    reason=f"the shared stages failed: {failed[chain.part]}",
                    log_tail=log_tail(self._folder.part(chain.part).log),
                )
                record.save(folder)
        self._look()

    def _make_data(self) -> None:
        """The embedded pair, before two trials would draw it at a time."""
        configs = [self._prepared.base, *(chain.config for chain in self._prepared.chains.values())]
        for root, streets in {
            (config.data.root, config.data.streets) for config in configs if config.data.streets.make
        }:
            ensure_pair(Path(root), streets, log.info)

    # -- trials ----------------------------------------------------------------------------------------------------

    def run_trials(self, ray: Any) -> None:
        """Let Ray Tune run what is left; returns when nothing is, or after a stop."""
        if not self.left() or self._stopping():
            return
        from esl_dist.studies import trainable  # needs ray

        tune = importlib.import_module("ray.tune")
        records = self._prepared.records()
        queued = [record.id for record in records if not record.is_final]
        self._settle()
        if self._study.search == "optuna":
            self._suggestions = Suggestions(self._study, self._prepared.base.run.seed + len(records))
            for record in records:
                self._suggestions.resume(record.id, record.params)
                if record.is_final:
                    self._suggestions.tell(record.id, record.score)
        runner = tune.with_resources(
            trainable.TrialRunner, {key.lower(): count for key, count in cluster.resources(self._study).items()}
        )
        scratch = self._folder.scratch
        shutil.rmtree(scratch, ignore_errors=True)
        tuner = tune.Tuner(
            runner,
            param_space={"study": str(self._dir), "cwd": self._cwd},
            tune_config=tune.TuneConfig(
                search_alg=trainable.Search(queued, self._ask, self._tell),
                scheduler=trainable.scheduler(self._study, self._dir, self._past(records)),
                num_samples=self.left(),
                max_concurrent_trials=self._study.concurrent or None,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(scratch),
                verbose=0,
                callbacks=[self._callback(tune)],
                stop=self._stopper(tune),
            ),
        )
        tuner.fit()
        self._wait_for_the_last()
        self._look()
        shutil.rmtree(scratch, ignore_errors=True)

    def _wait_for_the_last(self) -> None:
        """Tune returns while the trials that it stopped last are still leaving; one that does not leave in time is
        written down for it.
        """
        end = time.monotonic() + STOP_S
        while (left := [r for r in self._prepared.records() if r.status == "running"]) and time.monotonic() < end:
            time.sleep(shared.POLL_S)
        for record in left:
            folder = self._folder.trial(record.id)
            decision = decided(folder)
            record.end("stopped" if decision else "queued", stopped_by=decision)
            record.save(folder)

    def close(self) -> int:
        """Say what the study has come to; returns the exit code."""
        records = self._prepared.records()
        paths = write(self._dir)
        print(table(self._dir), flush=True)
        print(f"study: {paths[-1]}", flush=True)
        if self._runs is not None:
            self._runs.finish("KILLED" if self.left() else "FINISHED", paths)
        if self.left():
            log.info(
                "%s: stopped with %d of %d trials done; the same command goes on",
                self._study.name,
                self._total - self.left(),
                self._total,
            )
            return STOPPED_CODE
        scored = [record for record in records if record.status in ENDED and record.score is not None]
        return DONE_CODE if scored else FAILED_CODE

    def _past(self, records: list[TrialRecord]) -> Iterator[tuple[str, list[Point]]]:
        """Scores while training of the trials that were run in earlier starts."""
        for record in records:
            folder = self._folder.trial(record.id)
            if record.is_final and folder.config.is_file():
                config = load.load_config(str(folder.config))
                yield record.id, Curve(config, self._study.world, folder.run.path).new()

    def _ask(self) -> str:
        """A new trial at the point that the sampler wants to see."""
        assert self._suggestions is not None
        number = len(self._prepared.records())
        point = self._suggestions.ask(f"{number:03d}")
        return self._prepared.add(number, point, self._study.seeds[0]).id

    def _tell(self, trial: str, score: float | None) -> None:
        if self._suggestions is not None and not self._stopping():
            self._suggestions.tell(trial, score)

    def _stopping(self) -> bool:
        return self._folder.stop.exists()

    def _stopper(self, tune: Any) -> Any:
        stopping = self._stopping

        class Stop(tune.Stopper):
            def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
                return False

            def stop_all(self) -> bool:
                return stopping()

        return Stop()

    def _callback(self, tune: Any) -> Any:
        look, lost, total = self._look, self._lost, self._total

        class Report(tune.Callback):
            """Ray calls these in the driver's process."""

            def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                log.info("trial %s of %d starts", trial.config["trial"], total)
                look()  # before its first step, so that its training finds the MLflow run to write to

            def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                look()

            def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
                lost(trial.config["trial"])
                look()

        return Report()

    def _lost(self, trial: str) -> None:
        """A trial ended with an error: if its record does not say which, whoever was to write it is gone."""
        folder = self._folder.trial(trial)
        record = TrialRecord.load(folder)
        if not record.is_final:
            record.end("failed", reason="its worker process was lost", log_tail=log_tail(folder.log))
            record.save(folder)

    def _look(self) -> None:
        """Say which trials have ended since the last look. (One that a scheduler stops has yet to leave when Ray calls
        it complete.)
        """
        ended = [
            record
            for record in self._prepared.records()
            if record.is_final and self._said.get(record.id) != record.status
        ]
        for record in ended:
            self._said[record.id] = record.status
            log.info("%s", line(record, self._total))
        if ended and sys.stdout.isatty():
            print(table(self._dir), flush=True)
        self._settle()

    def _settle(self) -> None:
        """Tell MLflow what the records say."""
        if self._runs is not None:
            self._runs.settle()


def line(record: TrialRecord, total: int) -> str:
    """A trial that has ended, in one line."""
    names = short_names(record.params)
    point = ", ".join(f"{names[key]}={text(value)}" for key, value in record.params.items())
    finished = "finished without a score" if record.score is None else f"finished, {100 * record.score:.2f}"
    end = {
        "finished": f"{finished} in {duration(record.seconds)}",
        "stopped": f"stopped by {record.stopped_by} after {duration(record.seconds)}",
        "failed": f"failed: {record.reason}",
        "reused": f"the same labels as trial {record.same_as}, not trained again",
    }[record.status]
    return f"trial {record.id} of {total} ({point}, seed {record.seed}): {end}"


def _make(study_dir: Path, part: shared.Part, study: StudyConfig, cwd: str, parent: str) -> str:
    """``shared.make`` on a worker, once its parent's reason to fail is known (Ray waits for it)."""
    return parent or shared.make(study_dir, part, study.world, cwd, environment(study))


@contextlib.contextmanager
def _stop_on_signal(study_dir: Path) -> Iterator[None]:
    """The first Ctrl-C (or SIGTERM) lets trials save and leave, the second ends this process; what then is left of it
    ends by itself.
    """

    stop = StudyFolder(study_dir).stop

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.exists():
            os._exit(STOPPED_CODE)
        stop.touch()
        log.info("stopping: trials save and leave; once more to stop at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
