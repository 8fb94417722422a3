"""The trainer's side of the MLflow mirror: start its process, tell it the end, wait a bounded time."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import subprocess
import sys
from pathlib import Path

from esl_dist.config.schema import TrackingConfig
from esl_dist.config.secrets import without_password
from esl_dist.processes import python_path
from esl_dist.runs import RunFolder
from esl_dist.tracking.state import MirrorState

log = logging.getLogger(__name__)

# A short run may end while MLflow is still being imported and its database made; a killed one has less time to leave
# its machine.
CLOSE_S, CLOSE_KILLED_S = 30.0, 10.0


def tracking_uri(config: TrackingConfig, run_dir: Path) -> str:
    """``tracking.uri``, or ``MLFLOW_TRACKING_URI``, or ``mlflow.db`` beside the run folder.

    A configuration that was recorded has no password: where the variable names the same server with one, it is taken.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    if config.uri and config.uri != without_password(given):
        return config.uri
    return given or f"sqlite:///{RunFolder(run_dir).mirror_database}"


class Mirror:
    """A process that follows ``metrics.jsonl`` (see ``follow.py``). It costs the step nothing: they share a
    file only.
    """

    def __init__(self, process: subprocess.Popen[bytes], run_dir: Path, uri: str) -> None:
        self._process, self._run_dir, self._uri = process, run_dir, uri

    @classmethod
    def start(cls, config: TrackingConfig, run_dir: Path, run_name: str, params: dict[str, str]) -> Mirror | None:
        """Begin, or go on with the MLflow run that ``mlflow.json`` names. None, with one sentence, where that is
        impossible.

        A run that ``MLFLOW_RUN_ID`` names belongs to whoever set it, who will close it.
        """
        if not config.mlflow:
            return None
        if importlib.util.find_spec("mlflow") is None:
            log.info(
                "tracking: mlflow is not installed, so %s is the only record (pip install 'esl_dist[track]', or"
                " tracking.mlflow=false)",
                RunFolder(run_dir).metrics,
            )
            return None
        uri = tracking_uri(config, run_dir)
        shown = without_password(uri)
        given = os.environ.get("MLFLOW_RUN_ID", "")
        state = MirrorState.load(run_dir)
        if (
            state is None
            or state.uri != shown
            or state.experiment != config.experiment
            or (given and state.run_id != given)
        ):
            state = MirrorState(shown, config.experiment, run_name, params, run_id=given, owned=not given)
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "PYTHONPATH": python_path(),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        }
        try:
            state.save(run_dir)
            command = [sys.executable, "-m", "esl_dist.tracking.follow", str(run_dir), str(os.getpid())]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)
        except OSError as error:
            log.warning(
                "tracking: the MLflow mirror cannot start (%s); %s keeps everything", error, RunFolder(run_dir).metrics
            )
            return None
        return cls(process, run_dir, shown)

    def close(self, status: str, timeout_s: float | None = None) -> bool:
        """Send the rest and the run's ``status`` (FINISHED, FAILED, KILLED); False if that took too long or failed, and
        says what to do.
        """
        if timeout_s is None:
            timeout_s = CLOSE_KILLED_S if status == "KILLED" else CLOSE_S
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):  # it may have ended by itself, or hang in a call
            self._process.communicate(f"{status}\n".encode(), timeout=timeout_s)
        if self._process.poll() == 0:
            self._show()
            return True
        self._process.kill()
        self._process.wait()
        log.warning(
            "tracking: %s did not take everything; it is in %s, send the rest with: python -m"
            " esl_dist.tracking.replay %s",
            self._uri,
            RunFolder(self._run_dir).metrics,
            self._run_dir,
        )
        return False

    def _show(self) -> None:
        """Say where the run is to be seen."""
        state = MirrorState.load(self._run_dir)
        if state is None or not state.page:
            return
        if self._uri.startswith("http"):
            log.info("tracking: %s/%s", self._uri.rstrip("/"), state.page)
        else:
            log.info("tracking: mlflow server --backend-store-uri %s", self._uri)
            log.info("tracking: then open http://127.0.0.1:5000/%s", state.page)
