"""MLflow behind four calls. Imported only in a process of its own: ``import mlflow`` takes seconds and its
calls block.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from esl_dist.colours import COLOURS
from esl_dist.runs.events import Point

log = logging.getLogger(__name__)

# Read when mlflow is imported. At MLflow's defaults one call to a dead server blocks for minutes, and usage figures are
# sent to its makers.
SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
PARENT, COLOUR, KIND = "mlflow.parentRunId", "mlflow.runColor", "mlflow.experimentKind"
"""Tags: the run that a run is nested in, a line's colour in charts (MLflow's own come in near equals), and what an
experiment holds, which a server that has no switch for it in its pages shows it by.
"""
MAX_REASON = 600
"""Of a server's refusal: its remedy comes after its reason, lines below."""
_TRAINING = "workflowType=machine_learning"
"""Without it a browser that has not seen the server yet gets its pages of language models."""
# What MLflow does not allow in an image's name.
_NO_KEY = re.compile(r"[^\w\-. /]", re.ASCII)
MAX_PARAM = 6000
MAX_PARAMS_PER_CALL = 100


def reason(error: BaseException) -> str:
    """The innermost error in one line: what happened, without every library's opinion of it, and what to do about it,
    which MLflow says last.
    """
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return " ".join(str(error).split())[:MAX_REASON] or type(error).__name__


class Backend(Protocol):
    """A tracking server. Any call may raise any exception: that means "not now"."""

    def open(self, run_id: str) -> str:
        """Go on with ``run_id``, or begin a new run if it is empty; returns the run's id."""
        ...

    def page(self, run_id: str) -> str:
        """What follows a server's address where it shows the run beside others."""
        ...

    def nested(self, parent: str, name: str, number: int, time_ms: int) -> str:
        """Begin a run inside another, the ``number``-th from 0; returns its id."""
        ...

    def stands(self, run_id: str, status: str, time_ms: int | None) -> None:
        """Say that a nested run runs, or since when it has ended (None: now)."""
        ...

    def params(self, run_id: str, params: Mapping[str, str]) -> None: ...

    def send(self, run_id: str, points: Sequence[Point]) -> None:
        """Store points; sending the same point twice stores it once (as MLflow's database does)."""
        ...

    def picture(self, run_id: str, path: Path, name: str, step: int) -> None:
        """Show an image file under a name, beside those of other steps."""
        ...

    def finish(self, run_id: str, status: str, artifacts: Sequence[tuple[Path, str]]) -> None: ...


class MlflowBackend:
    """An MLflow server or database."""

    def __init__(self, uri: str, experiment: str, run_name: str) -> None:
        for key, value in SETTINGS.items():
            os.environ.setdefault(key, value)
        for noisy in ("alembic", "urllib3"):
            logging.getLogger(noisy).setLevel(logging.ERROR)
        self._uri, self._experiment, self._run_name = uri, experiment, run_name
        self._client: Any = None

    def open(self, run_id: str) -> str:
        if run_id:
            self.client().update_run(run_id, status="RUNNING")
            return run_id
        return self.create(self._run_name)

    def create(self, run_name: str, tags: Mapping[str, str] | None = None) -> str:
        """Begin a run in the experiment, which is made if it is not there; returns the run's id."""
        client = self.client()
        found = client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                experiment_id = client.create_experiment(
                    self._experiment, artifact_location=self._artifacts(), tags={KIND: "custom_model_development"}
                )
            except Exception:  # another run made it in the meantime
                found = client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
                experiment_id = found.experiment_id
        else:
            experiment_id = found.experiment_id
        return str(client.create_run(experiment_id, tags=dict(tags or {}), run_name=run_name).info.run_id)

    def page(self, run_id: str) -> str:
        return f"#/experiments/{self.client().get_run(run_id).info.experiment_id}/runs?{_TRAINING}"

    def nested(self, parent: str, name: str, number: int, time_ms: int) -> str:
        client = self.client()
        experiment = client.get_run(parent).info.experiment_id
        tags = {PARENT: parent, COLOUR: COLOURS[number % len(COLOURS)]}
        return str(client.create_run(experiment, start_time=time_ms, tags=tags, run_name=name).info.run_id)

    def stands(self, run_id: str, status: str, time_ms: int | None) -> None:
        if status == "RUNNING":
            self.client().update_run(run_id, status=status)
        else:
            self.client().set_terminated(run_id, status=status, end_time=time_ms)

    def params(self, run_id: str, params: Mapping[str, str]) -> None:
        entities = importlib.import_module("mlflow.entities")
        made = [entities.Param(key, value[:MAX_PARAM]) for key, value in params.items()]
        try:
            for start in range(0, len(made), MAX_PARAMS_PER_CALL):
                self.client().log_batch(run_id, params=made[start : start + MAX_PARAMS_PER_CALL])
        except Exception as error:
            # Parameters cannot be changed: whoever opened the run set one otherwise. That is an answer, not an outage.
            if getattr(error, "error_code", "") != "INVALID_PARAMETER_VALUE":
                raise
            log.warning("tracking: %s", " ".join(str(error).split())[:MAX_REASON])

    def send(self, run_id: str, points: Sequence[Point]) -> None:
        entities = importlib.import_module("mlflow.entities")
        metrics = [entities.Metric(p.name, p.value, p.time_ms, p.step) for p in points]
        self.client().log_batch(run_id, metrics=metrics)

    def picture(self, run_id: str, path: Path, name: str, step: int) -> None:
        key = _NO_KEY.sub("_", name)
        with importlib.import_module("PIL.Image").open(path) as picture:
            self.client().log_image(run_id, picture, key=key, step=step, synchronous=True)

    def finish(self, run_id: str, status: str, artifacts: Sequence[tuple[Path, str]]) -> None:
        client = self.client()
        client.set_terminated(run_id, status=status)
        for path, folder in artifacts:
            with contextlib.suppress(FileNotFoundError):
                client.log_artifact(run_id, str(path), folder or None)

    def client(self) -> Any:
        """MLflow's own client, made at the first call."""
        if self._client is None:
            if self._uri.startswith("sqlite:///"):
                Path(self._uri.removeprefix("sqlite:///")).resolve().parent.mkdir(parents=True, exist_ok=True)
            self._client = importlib.import_module("mlflow.tracking").MlflowClient(tracking_uri=self._uri)
        return self._client

    def _artifacts(self) -> str | None:
        """Beside a local database; a server knows its own place. (MLflow's default is a folder in the working
        directory.)
        """
        if not self._uri.startswith("sqlite:///"):
            return None
        return (Path(self._uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
