"""Ray for the length of a study: started on this machine, or joined."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from esl_dist import processes
from esl_dist.config.load import ConfigError
from esl_dist.config.study import StudyConfig
from esl_dist.errors import RunFailure

# Read when ray is imported, and inherited by everything that it starts.
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # a trial's own metrics.jsonl is the record
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver's own stops trials where they are
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that is stopped before its first score has none
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # the driver names them in one line
    "RAY_AIR_NEW_OUTPUT": "0",  # without it verbose=0 is not silent
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "30",  # a busy machine has time to answer
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray of one machine then listens on 127.0.0.1, as it does by default on those systems; elsewhere it would listen on
every interface.
"""
OBJECT_STORE_BYTES = 80 * 2**20
"""Nothing of size travels between trials; Ray would take a third of the memory."""


def require() -> None:
    """Raises ``ConfigError`` with the command that installs what a study needs."""
    lacking = [name for name in ("ray", "optuna") if importlib.util.find_spec(name) is None]
    if lacking:
        raise ConfigError(f"a study needs {' and '.join(lacking)}: pip install 'esl_dist[tune]'")


@contextlib.contextmanager
def connected(study: StudyConfig) -> Iterator[Any]:
    """The ``ray`` module with a cluster behind it that has room for a trial.

    Raises:
        ConfigError: no cluster answers, or a trial would never fit on it.
    """
    for key, value in (SETTINGS if study.address else SETTINGS | LOOPBACK).items():
        os.environ.setdefault(key, value)
    os.environ["PYTHONPATH"] = processes.python_path()
    ray = importlib.import_module("ray")
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if study.address:
        try:
            ray.init(address=study.address, **quiet)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ConfigError(f"--address {study.address}: {str(error).splitlines()[0]}") from None
    else:
        _token()
        cores = max(processes.cores(), study.world * max(study.concurrent, 1))
        try:
            ray.init(num_cpus=cores, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
        except Exception as error:  # whatever it was, nothing was trained
            raise RunFailure(
                f"Ray does not start on this machine ({str(error).splitlines()[0]}); the same command goes on from here"
            ) from None
    try:
        _check_room(study, ray.nodes())
        yield ray
    finally:
        ray.shutdown()


def resources(study: StudyConfig) -> dict[str, float]:
    """Of one trial, on one node."""
    return {"CPU": float(study.world), "GPU": float(study.gpus)} if study.gpus else {"CPU": float(study.ranks)}


def _check_room(study: StudyConfig, nodes: list[dict[str, Any]]) -> None:
    wanted = resources(study)
    if not any(
        node["Alive"] and all(node["Resources"].get(key, 0) >= count for key, count in wanted.items()) for node in nodes
    ):
        has = "; ".join(
            ", ".join(f"{node['Resources'].get(key, 0):.0f} {key}" for key in wanted) for node in nodes if node["Alive"]
        )
        raise ConfigError(
            f"a trial needs {', '.join(f'{count:.0f} {key}' for key, count in wanted.items())} on one node, but nodes"
            f" have {has}; set study.ranks or study.gpus"
        )


def _token() -> None:
    """Ray keeps strangers out of the ports it opens by a token in the home folder; where that cannot be written, by one
    of this study alone.
    """
    if {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys():
        return
    folder = Path.home() / ".ray"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable and not (folder / "auth_token").is_file():
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
