"""``python -m esl_dist.tracking.replay RUN``: send what the tracking server has not seen of a run, from its
``metrics.jsonl``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

from esl_dist.config.schema import TrackingConfig
from esl_dist.config.secrets import without_password
from esl_dist.runs import RunFolder
from esl_dist.tracking.backend import MlflowBackend
from esl_dist.tracking.follow import Follower
from esl_dist.tracking.mlflow import tracking_uri
from esl_dist.tracking.state import MirrorState, only_sender


def replay(run_dir: Path, uri: str = "", status: str = "FINISHED") -> int:
    """Send the rest of a run to ``uri`` (empty: where it was mirrored to); returns the number of lines sent.

    Raises:
        ValueError: no such run, it is being mirrored right now, or the server does not answer.
    """
    metrics = RunFolder(run_dir).metrics
    if not metrics.is_file():
        raise ValueError(f"{run_dir}: holds no {metrics.name}; name a run folder")
    before = MirrorState.load(run_dir)
    target = (
        uri
        or os.environ.get("MLFLOW_TRACKING_URI", "")
        or (before.uri if before else tracking_uri(TrackingConfig(), run_dir))
    )
    shown = without_password(target)
    state = before if before is not None and before.uri == shown else None
    if state is None:
        name, params, experiment = (
            (before.run_name, before.params, before.experiment)
            if before
            else (run_dir.resolve().name, {}, TrackingConfig().experiment)
        )
        state = MirrorState(shown, experiment, name, params)
    with only_sender(run_dir) as alone:
        if not alone:
            raise ValueError(f"{run_dir}: a running training mirrors it already; wait for its end")
        follower = Follower(run_dir, state, MlflowBackend(target, state.experiment, state.run_name))
        waiting = follower.left()
        if not follower.finish(status):
            raise ValueError(f"{shown}: does not answer; {follower.left()} line(s) of {metrics} are still to be sent")
    return waiting


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="esl_dist.tracking.replay", description="Send what the tracking server has not seen of a run."
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--uri", default="", help="tracking server (default: the one that the run was mirrored to)")
    parser.add_argument(
        "--status",
        default="FINISHED",
        choices=("FINISHED", "FAILED", "KILLED"),
        help="status that the MLflow run ends with",
    )
    arguments = parser.parse_args()
    if importlib.util.find_spec("mlflow") is None:
        print("esl_dist: error: mlflow is not installed: pip install 'esl_dist[track]'", file=sys.stderr)
        return 2
    try:
        sent = replay(arguments.run, arguments.uri, arguments.status)
    except ValueError as error:
        print(f"esl_dist: error: {error}", file=sys.stderr)
        return 2
    print(f"sent {sent} line(s) of {RunFolder(arguments.run).metrics}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
