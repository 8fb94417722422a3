"""The whole mirror with its process and MLflow's own client, against servers that fail."""

import json
import logging
import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from esl_dist.colours import COLOURS
from esl_dist.config.schema import TrackingConfig
from esl_dist.runs import RunFolder, lines
from esl_dist.runs.events import Eval, Train
from esl_dist.tracking import Tracker
from esl_dist.tracking.backend import MlflowBackend
from esl_dist.tracking.replay import replay
from tests.tracking.mlflow_server import MlflowServer

pytest.importorskip("mlflow", reason="the extra 'track' is not installed")


@pytest.fixture
def server() -> Iterator[MlflowServer]:
    made = MlflowServer().start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def no_tracking_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)


def tracker(run_dir: Path, uri: str = "") -> Tracker:
    return Tracker(run_dir, TrackingConfig(uri=uri), "a run", {"optim.lr": "0.1"}, is_main=True)


def train(tracked: Tracker, first: int, last: int) -> list[float]:
    """Write steps; returns the seconds that each call took."""
    costs = []
    for step in range(first, last + 1):
        began = time.perf_counter()
        tracked.record(Train("source", step, 1000, 0.1, 0, {"loss/seg": 1 / step}))
        costs.append(time.perf_counter() - began)
    return costs


def received(server: MlflowServer) -> list[int]:
    return [step for name, step, _ in server.metrics if name == "loss/seg"]


def closed_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.parametrize("fault", ["refused", "black hole", "500"])
def test_a_server_that_does_not_take_points(tmp_path: Path, server: MlflowServer, fault: str) -> None:
    server.mode = {"black hole": "hang", "500": "500", "refused": "ok"}[fault]
    uri = f"http://127.0.0.1:{closed_port()}" if fault == "refused" else server.uri
    tracked = tracker(tmp_path / "run", uri)
    costs = train(tracked, 1, 100)
    if fault != "refused":
        server.wait(lambda: server.requests > 0)
    costs += train(tracked, 101, 200)  # while the mirror is in the call
    assert statistics.median(costs) < 1e-3
    assert tracked._mirror is not None
    tracked._mirror.close("FINISHED", timeout_s=1)
    began = time.monotonic()
    tracked._mirror = None
    tracked.close("FINISHED")
    assert time.monotonic() - began < 5
    assert [line.event.step for line in lines.read(tmp_path / "run" / "metrics.jsonl")] == list(range(1, 201))
    # The server is well again: the replay command sends what is left.
    server.mode = "ok"
    assert replay(tmp_path / "run", server.uri) == 200
    assert received(server) == list(range(1, 201)) and server.statuses[-1] == "FINISHED"


def test_a_server_that_dies_and_comes_back(
    tmp_path: Path, server: MlflowServer, capfd: pytest.CaptureFixture[str]
) -> None:
    tracked = tracker(tmp_path / "run", server.uri)
    train(tracked, 1, 50)
    server.wait(lambda: len(received(server)) == 50)
    assert server.params == {"optim.lr": "0.1"}
    server.stop()
    assert statistics.median(train(tracked, 51, 100)) < 1e-3
    time.sleep(2)
    server.start()
    train(tracked, 101, 150)
    server.wait(lambda: len(received(server)) == 150)
    tracked.close("FINISHED")
    assert received(server) == list(range(1, 151)) and server.statuses[-1] == "FINISHED"
    said = capfd.readouterr().err
    assert said.count("does not take points") == 1 and said.count("answers again") == 1


def test_the_mirror_ends_with_a_killed_trainer(tmp_path: Path, server: MlflowServer) -> None:
    program = """
import sys, time
from pathlib import Path
from esl_dist.colours import COLOURS
from esl_dist.config.schema import TrackingConfig
from esl_dist.runs.events import Train
from esl_dist.tracking import Tracker
t = Tracker(Path(sys.argv[1]), TrackingConfig(uri=sys.argv[2]), "r", {}, True)
print(t._mirror._process.pid, flush=True)
t.record(Train("source", 1, figures={"loss/seg": 1.0}))
time.sleep(60)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "run"), server.uri],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert child.stdout is not None
    mirror = int(child.stdout.readline())
    server.wait(lambda: received(server) == [1])
    child.kill()
    child.wait()
    server.wait(lambda: not alive(mirror), seconds=10)
    # Started again, it goes on in the same MLflow run.
    tracked = tracker(tmp_path / "run", server.uri)
    train(tracked, 2, 3)
    tracked.close("FINISHED")
    assert received(server) == [1, 2, 3]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_sqlite_stores_every_point_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    tracked = tracker(tmp_path / "runs" / "one")
    train(tracked, 1, 30)
    strip = RunFolder(tmp_path / "runs" / "one").stage("source").strip(30, "city/é.1")
    strip.parent.mkdir(parents=True)
    Image.new("RGB", (8, 4)).save(strip)
    tracked.record(Eval("source", 30, "test", "running", 0.5, iou={"traffic light": 0.25, "train": None}))
    assert tracked._mirror is not None
    assert tracked._mirror.close("FINISHED", timeout_s=120)  # this machine may be busy
    tracked._mirror = None
    tracked.close("FINISHED")
    # A lost state file is the worst case: everything is sent again, to the same run, which stores it once.
    state = tmp_path / "runs" / "one" / "mlflow.json"
    content = json.loads(state.read_text())
    assert content["sent"]
    state.write_text(json.dumps({**content, "sent": {}}))
    assert replay(tmp_path / "runs" / "one") == 31
    assert replay(tmp_path / "runs" / "one") == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    run, stage = client.get_run(content["run_id"]), client.get_run(content["stages"]["source"])
    assert [m.step for m in client.get_metric_history(stage.info.run_id, "loss/seg")] == list(range(1, 31))
    assert stage.data.metrics["running iou/traffic light"] == 0.25 and run.data.params == {"optim.lr": "0.1"}
    assert run.data.metrics == {"miou running/source": 0.5}
    assert (stage.info.run_name, stage.info.status) == ("source", "FINISHED")
    assert stage.data.tags["mlflow.parentRunId"] == run.info.run_id and stage.data.tags["mlflow.runColor"] == COLOURS[0]
    assert client.get_experiment(run.info.experiment_id).tags["mlflow.experimentKind"] == "custom_model_development"
    assert content["page"] == f"#/experiments/{run.info.experiment_id}/runs?workflowType=machine_learning"
    assert run.info.status == "FINISHED" and run.info.run_name == "a run"
    shown = [file.path for file in client.list_artifacts(stage.info.run_id, "images") if file.path.endswith(".png")]
    assert shown and all(path.startswith("images/predictions~city~_.1+step+30+") for path in shown)
    # A parameter that somebody set otherwise is an answer, not an outage.
    monkeypatch.setattr(logging.getLogger("esl_dist"), "propagate", True)
    MlflowBackend(content["uri"], "esl_dist", "a run").params(content["run_id"], {"optim.lr": "0.2"})
    assert len([r for r in caplog.records if "optim.lr" in r.message]) == 1


def test_without_mlflow_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("esl_dist.tracking.mlflow.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(logging.getLogger("esl_dist"), "propagate", True)
    with caplog.at_level("INFO", "esl_dist"):
        tracked = tracker(tmp_path / "run")
        train(tracked, 1, 2)
        tracked.close("FINISHED")
    assert len([r for r in caplog.records if "mlflow is not installed" in r.message]) == 1
    assert not (tmp_path / "run" / "mlflow.json").exists()


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    tracked = Tracker(tmp_path / "run", TrackingConfig(), "r", {}, is_main=False)
    tracked.record(Train("source", 1))
    tracked.truncate("source", 0)
    tracked.close("FINISHED")
    assert list(tmp_path.iterdir()) == []


def test_replay_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no metrics"):
        replay(tmp_path)


@pytest.mark.slow
def test_soak_with_the_tracker_down_is_flat(tmp_path: Path) -> None:
    tracked = tracker(tmp_path / "run", f"http://127.0.0.1:{closed_port()}")
    assert tracked._mirror is not None
    mirror = tracked._mirror._process.pid
    train(tracked, 1, 2000)
    time.sleep(10)  # the mirror has imported MLflow and was refused
    files, own, its = len(os.listdir("/proc/self/fd")), memory_mb("self"), memory_mb(str(mirror))
    for block in range(2, 22):
        train(tracked, block * 1000 + 1, block * 1000 + 1000)
        time.sleep(1)
    assert len(os.listdir("/proc/self/fd")) == files
    assert (memory_mb("self") - own) / 20 < 1 and (memory_mb(str(mirror)) - its) / 20 < 1
    tracked.close("FINISHED")
    assert sum(1 for _ in lines.read(tmp_path / "run" / "metrics.jsonl")) == 22_000


def memory_mb(pid: str) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
