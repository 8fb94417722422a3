"""The tracking server: asked once, for a bounded time. Training does not need it, so it is never broken."""

from __future__ import annotations

import importlib.util
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from esl_dist.config.load import run_dir
from esl_dist.config.schema import Config
from esl_dist.config.secrets import without_password
from esl_dist.diagnostics.check import Check
from esl_dist.diagnostics.storage import existing
from esl_dist.distributed.runtime import Runtime
from esl_dist.tracking.mlflow import tracking_uri

TIMEOUT_S = 3.0


def tracking(config: Config, runtime: Runtime) -> list[Check]:
    """Whether the mirror of ``metrics.jsonl`` would find its server or database."""
    if not runtime.is_main:
        return []
    if not config.tracking.mlflow:
        return [Check("tracking", "ok", "metrics.jsonl only (tracking.mlflow=false)")]
    if importlib.util.find_spec("mlflow") is None:
        return [
            Check(
                "tracking",
                "ok",
                "metrics.jsonl only: mlflow is not installed (pip install 'esl_dist[track]' mirrors to it)",
            )
        ]
    uri = tracking_uri(config.tracking, run_dir(config))
    shown = without_password(uri)
    later = "training does not wait for it; send what it missed with python -m esl_dist.tracking.replay RUN"
    if uri.startswith(("http://", "https://")):
        problem, seconds = _ask(uri)
        if problem:
            return [Check("tracking", "warning", f"{shown}: {problem}", later)]
        return [Check("tracking", "ok", f"{shown} answers in {seconds * 1e3:.0f} ms")]
    if uri.startswith("sqlite:///"):
        folder = existing(Path(uri.removeprefix("sqlite:///")).parent)
        if not os.access(folder, os.W_OK):
            return [
                Check(
                    "tracking",
                    "warning",
                    f"{shown}: {folder} cannot be written",
                    "set tracking.uri to a server or another database",
                )
            ]
        return [Check("tracking", "ok", shown)]
    if "://" not in uri or uri.startswith("file:"):
        return [
            Check(
                "tracking",
                "warning",
                f"{shown}: MLflow no longer writes plain folders",
                "set tracking.uri=sqlite:///PATH/mlflow.db or a server",
            )
        ]
    return [Check("tracking", "ok", f"{shown} (not asked: neither HTTP nor a local database)")]


def _ask(uri: str) -> tuple[str, float]:
    """What is wrong with an HTTP server (empty: nothing), and the seconds that its answer took."""
    began = time.perf_counter()
    try:
        with urllib.request.urlopen(f"{without_password(uri).rstrip('/')}/health", timeout=TIMEOUT_S):
            return "", time.perf_counter() - began
    except urllib.error.HTTPError as error:
        if error.code in (401, 403, 404):  # there, and behind a login or a path of its own
            return "", time.perf_counter() - began
        return f"answers with error {error.code}", 0.0
    except (OSError, ValueError) as error:
        return f"does not answer within {TIMEOUT_S:g} s ({getattr(error, 'reason', error)})", 0.0
