"""A study in MLflow: a parent run, a child run per trial, the best checkpoint as a version of a model.

What is on disk is the truth, as everywhere: :meth:`StudyRuns.settle` makes the server say what ``trials/*/trial.json``
say. So a server that was away, a driver that was killed and a study that is gone on with all come to the same runs.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from esl_dist.config.secrets import without_password
from esl_dist.runs import Record, RunFolder, StudyFolder
from esl_dist.runs.content import ServerRun
from esl_dist.studies.outcome import final_weights
from esl_dist.studies.reading import StudyRecord, read_study
from esl_dist.studies.record import TrialRecord, short_names, text
from esl_dist.tracking.backend import MAX_PARAM, PARENT, MlflowBackend, reason
from esl_dist.tracking.follow import Follower
from esl_dist.tracking.state import MirrorState, only_sender

log = logging.getLogger(__name__)

ALIAS = "best"
STATUS = {
    "queued": "SCHEDULED",
    "running": "RUNNING",
    "finished": "FINISHED",
    "reused": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}
PAUSE_S = 60.0
"""After a call that failed the server is left alone for so long: a call to a dead one blocks for seconds."""


class StudyRuns:
    """The runs of one study, for the driver. Nothing here raises for a server that fails, and a dead one costs a short
    call a minute.
    """

    def __init__(self, study_dir: Path, uri: str, experiment: str) -> None:
        self._dir, self._shown, self._experiment = study_dir, without_password(uri), experiment
        self._folder = StudyFolder(study_dir)
        self._backend: MlflowBackend | None = None
        self._not_before = 0.0
        self._failing = False
        if importlib.util.find_spec("mlflow") is None:
            log.info(
                "tracking: mlflow is not installed, so the study's folder is the only record (pip install"
                " 'esl_dist[track]')"
            )
        else:
            self._backend = MlflowBackend(uri, experiment, study_dir.name)

    def settle(self) -> None:
        """Tell the server what is new in the trials' records. Then every trial has its run, named in
        ``trials/<id>/mlflow.json``: ``run_id``, ``uri``.
        """
        if self._backend is not None and time.monotonic() >= self._not_before:
            with self._forgiving():
                self._settle(self._backend, read_study(self._dir))

    def finish(self, status: str, artifacts: Sequence[Path] = ()) -> None:
        """End the parent run with ``status`` FINISHED, KILLED or FAILED; ``artifacts`` and the best checkpoint go with
        it.
        """
        if self._backend is None:
            return
        with self._forgiving():
            study = read_study(self._dir)
            parent, client, settings = self._settle(self._backend, study), self._backend.client(), study.settings()
            for path in (self._folder.config, *artifacts):
                client.log_artifact(parent, str(path))
            if settings:
                client.log_metric(parent, "best", settings[0].score.mean)
                self._register(study, client)
            client.set_terminated(parent, status=status)

    def _settle(self, backend: MlflowBackend, study: StudyRecord) -> str:
        config = study.config
        parent = self._run_of(self._folder.server_run)
        if not parent:
            parent = backend.create(config.name, {"study": config.name})
            self._remember(self._folder.server_run, parent)
            about = {
                "base": config.base,
                "options": " ".join(config.options),
                "space": json.dumps(config.space),
                "seeds": str(list(config.seeds)),
            }
            backend.params(
                parent,
                {**about, **{name: str(getattr(config, name)) for name in ("metric", "mode", "search", "scheduler")}},
            )
        for trial in study.trials:
            self._settle_trial(backend, study, trial, parent)
        return parent

    def _settle_trial(self, backend: MlflowBackend, study: StudyRecord, trial: TrialRecord, parent: str) -> None:
        client, stands_for = backend.client(), self._folder.trial(trial.id).server_run
        run_id = self._run_of(stands_for)
        if not run_id:
            run_id = backend.create(
                _name(trial),
                {PARENT: parent, "study": study.config.name, "trial": trial.id, "seed": str(trial.seed)},
            )
            self._remember(stands_for, run_id)
        # One that was worked on and waits again was interrupted, with the whole study.
        interrupted = trial.status == "queued" and trial.started is not None
        told = f"{trial.status} {trial.stopped_by or ''}{'interrupted' if interrupted else ''}".strip()
        known_run = stands_for.recall()
        if known_run is not None and known_run.told == told:
            return
        tags = {
            "stopped_by": "user" if interrupted else trial.stopped_by,
            "reason": trial.reason,
            "same_as": trial.same_as,
        }
        known = client.get_run(run_id).data
        for name, value in tags.items():
            if value:
                client.set_tag(run_id, name, str(value)[:MAX_PARAM])
            elif name in known.tags:  # of an end that the study went on from
                client.delete_tag(run_id, name)
        if trial.is_final:
            # The trial's own mirror sent every option, if it came so far; a parameter can be set once.
            backend.params(
                run_id, {name: str(value) for name, value in trial.params.items() if name not in known.params}
            )
            self._outcome(backend, study, trial, run_id)
        if trial.is_final or interrupted:
            ended = None if trial.ended is None else int(1000 * trial.ended)
            client.set_terminated(run_id, status="KILLED" if interrupted else STATUS[trial.status], end_time=ended)
        else:
            client.update_run(run_id, status=STATUS[trial.status])
        self._remember(stands_for, run_id, told)

    def _outcome(self, backend: MlflowBackend, study: StudyRecord, trial: TrialRecord, run_id: str) -> None:
        """Score, thresholds, and of its curves what the trial's own mirror has not sent."""
        client, run_dir = backend.client(), self._dir / trial.run
        if trial.score is not None:
            client.log_metric(run_id, "score", trial.score)
        metric, now = importlib.import_module("mlflow.entities").Metric, int(1000 * time.time())
        for made in RunFolder(run_dir).labels.sets():
            client.log_artifact(run_id, str(made.thresholds.path), f"pseudo_labels/{made.name}")
            rows = made.thresholds.read()["classes"]
            values = {f"pseudo_labels/{made.name}/threshold/{row['name']}": row["threshold"] for row in rows}
            known_values = [(name, value) for name, value in values.items() if value is not None]
            client.log_batch(run_id, metrics=[metric(name, value, now, 0) for name, value in known_values])
        if RunFolder(run_dir).metrics.is_file():
            state = MirrorState.load(run_dir)
            if state is None or state.run_id != run_id:
                state = MirrorState(
                    self._shown, self._experiment, _name(trial), run_id=run_id, owned=False, params_sent=True
                )
            with only_sender(run_dir) as alone:
                if alone:
                    Follower(run_dir, state, backend).finish(STATUS[trial.status])

    def _register(self, study: StudyRecord, client: Any) -> None:
        """The best setting's best seed becomes a version of the study's model, with the alias ``best``."""
        best = study.best()
        weights = final_weights(study.run(best), study.config.stage) if best is not None else None
        if best is None or weights is None:
            return
        run_id, name = self._run_of(self._folder.trial(best.id).server_run), f"esl_dist-{study.config.name}"
        if any(model.name == name for model in client.search_registered_models(f"name = '{name}'")):
            with contextlib.suppress(Exception):  # no version has the alias
                if client.get_model_version_by_alias(name, ALIAS).run_id == run_id:
                    return
        else:
            client.create_registered_model(name)
        client.log_artifact(run_id, str(weights), "checkpoint")
        source = f"{client.get_run(run_id).info.artifact_uri}/checkpoint"
        version = client.create_model_version(
            name, source, run_id, description=f"{_name(best)}: {study.title} {100 * (best.score or 0):.2f}"
        )
        client.set_registered_model_alias(name, ALIAS, version.version)

    # -- what is remembered beside the trials ----------------------------------------------------------------------

    def _run_of(self, record: Record[ServerRun]) -> str:
        """Id of the run that stands for a folder; empty where there is none on this server."""
        found = record.recall()
        here = found is not None and (found.uri, found.experiment) == (self._shown, self._experiment)
        return found.run_id if found is not None and here else ""

    def _remember(self, record: Record[ServerRun], run_id: str, told: str = "") -> None:
        record.write(ServerRun(run_id, self._shown, self._experiment, told))

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        """A tracker may fail in any way, and none of them may matter: it is said once, and tried again later."""
        try:
            yield
        except Exception as error:
            if not self._failing:
                log.warning(
                    "tracking: %s failed (%s); the study goes on, its folder keeps everything, and the same command"
                    " sends it later",
                    self._shown,
                    reason(error),
                )
            self._failing, self._not_before = True, time.monotonic() + PAUSE_S
        else:
            self._failing = False


def _name(trial: TrialRecord) -> str:
    """``003 nu=0.1 seed=2``."""
    names = short_names(trial.params)
    return " ".join(
        [trial.id, *(f"{names[option]}={text(value)}" for option, value in trial.params.items()), f"seed={trial.seed}"]
    )
