"""A study's runs in a real MLflow store, and on servers that are not there."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from esl_dist.runs import StudyFolder
from esl_dist.studies.mlflow import StudyRuns
from esl_dist.studies.record import TrialRecord
from tests.reporting.made_run import make_data, make_run
from tests.studies.made_study import make_study, trial

mlflow = pytest.importorskip("mlflow")
EXPERIMENT = "studies"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose best runs have weights."""
    root = tmp_path_factory.mktemp("studies")
    streets = make_data(root / "data", images=2)

    def make(path: Path, **options: Any) -> Path:
        make_run(path, root / "data", streets, **options)
        (path / "selftrain-esl/checkpoints/step_00000240/segmenter.pt").write_bytes(b"weights")
        return path

    return make_study(root / "made", make)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that is made once: that alone takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made", symlinks=True))


def client(uri: str) -> Any:
    return mlflow.MlflowClient(tracking_uri=uri)


def run_of(folder: Path, uri: str) -> Any:
    content = json.loads((folder / "mlflow.json").read_text())
    assert content["uri"] == uri
    return client(uri).get_run(content["run_id"])


def test_every_trial_has_a_run_with_its_status(study: Path, store: str) -> None:
    runs = StudyRuns(study, store, EXPERIMENT)
    runs.settle()
    found = {folder.name: run_of(folder, store) for folder in sorted((study / "trials").iterdir())}
    statuses = [found[f"{number:03d}"].info.status for number in (0, 10, 11, 12, 13, 14)]
    assert statuses == ["FINISHED", "KILLED", "FAILED", "FINISHED", "RUNNING", "SCHEDULED"]
    parent = run_of(study, store)
    assert {run.data.tags["mlflow.parentRunId"] for run in found.values()} == {
        parent.info.run_id
    } and parent.info.status == "RUNNING"
    assert (
        found["010"].data.tags["stopped_by"] == "asha"
        and "not finite" in found["011"].data.tags["reason"]
        and found["012"].data.tags["same_as"] == "004"
    )
    first = found["003"]
    assert (
        first.data.params == {"pseudo_labels.nu": "0.1", "selftrain.weight": "0.5"}
        and first.data.metrics["score"] == 0.35
    )
    thresholds = json.loads((study / "trials/003/run/pseudo_labels/esl/thresholds.json").read_text())["classes"]
    assert first.data.metrics["pseudo_labels/esl/threshold/road"] == thresholds[0]["threshold"]
    # The curves of a trial that had no mirror of its own.
    query = f"tags.`mlflow.parentRunId` = '{first.info.run_id}' and run_name = 'align'"
    (stage,) = client(store).search_runs([first.info.experiment_id], query)
    assert stage.data.metrics["loss/adv_main"] > 0 and stage.info.status == "FINISHED"
    assert parent.data.params["space"].startswith('{"pseudo_labels.nu"') and parent.data.params["scheduler"] == "asha"
    assert [a.path for a in client(store).list_artifacts(first.info.run_id, "pseudo_labels/esl")] == [
        "pseudo_labels/esl/thresholds.json"
    ]


def test_a_study_that_is_gone_on_with_keeps_its_runs(study: Path, store: str) -> None:
    # Interrupted while it trained, then finished in a second start.
    trial = StudyFolder(study).trial("013")
    folder, record = trial.path, TrialRecord.load(trial)
    record.status = "queued"
    record.save(trial)
    first = StudyRuns(study, store, EXPERIMENT)
    first.finish("KILLED")
    before = run_of(folder, store)
    assert (before.info.status, before.data.tags["stopped_by"]) == ("KILLED", "user") and run_of(
        study, store
    ).info.status == "KILLED"
    record.end("finished", score=0.31)
    record.save(trial)
    ids = {path: json.loads(path.read_text())["run_id"] for path in study.rglob("mlflow.json")}
    StudyRuns(study, store, EXPERIMENT).finish("FINISHED")
    assert {path: json.loads(path.read_text())["run_id"] for path in ids} == ids
    after = run_of(folder, store)
    assert (
        after.info.run_id == before.info.run_id
        and after.info.status == "FINISHED"
        and "stopped_by" not in after.data.tags
    )
    assert run_of(study, store).info.status == "FINISHED"


def test_the_best_checkpoint_is_a_version_with_an_alias(study: Path, store: str) -> None:
    (study / "study.csv").write_text("trial\n")
    text = (study / "study.yaml").read_text()
    (study / "study.yaml").write_text(text.replace("name: made", "name: registered"))
    runs = StudyRuns(study, store, EXPERIMENT)
    runs.finish("FINISHED", [study / "study.csv"])
    registry = client(store)
    version = registry.get_model_version_by_alias("esl_dist-registered", "best")
    assert version.run_id == run_of(study / "trials/003", store).info.run_id
    assert Path(version.source.removeprefix("file://"), "segmenter.pt").read_bytes() == b"weights"
    parent = run_of(study, store)
    assert sorted(a.path for a in registry.list_artifacts(parent.info.run_id)) == [
        "study.csv",
        "study.yaml",
    ] and parent.data.metrics["best"] == pytest.approx(34.5)
    runs.finish("FINISHED")  # nothing is better now
    assert len(registry.search_model_versions("name = 'esl_dist-registered'")) == 1
    trial(study, 15, 0.3, 1.0, 1, score=0.9)
    (study / "trials/015/run").symlink_to(study / "trials/000/run")
    runs.finish("FINISHED")
    assert str(registry.get_model_version_by_alias("esl_dist-registered", "best").version) == "2"


def test_a_dead_server_is_said_once_and_asked_once_a_minute(
    study: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("esl_dist"), "propagate", True)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{closed.getsockname()[1]}"
    runs = StudyRuns(study, uri, EXPERIMENT)
    began = time.monotonic()
    runs.settle()
    first = time.monotonic() - began
    began = time.monotonic()
    for _ in range(100):
        runs.settle()
    assert time.monotonic() - began < 1
    runs.finish("FINISHED")
    assert first < 60 and len([r for r in caplog.records if "the study goes on" in r.message]) == 1
    assert not list(study.rglob("mlflow.json"))


def test_a_server_that_comes_back_hears_everything(study: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = StudyRuns(study, store, EXPERIMENT)
    backend = runs._backend
    assert backend is not None
    calls = {"left": 20}

    def failing(call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **named: Any) -> Any:
            calls["left"] -= 1
            if calls["left"] < 0:
                raise ConnectionError("gone")
            return call(*arguments, **named)

        return made

    real = backend.client()
    with monkeypatch.context() as broken:
        for name in ("create_run", "log_batch", "set_terminated", "log_artifact", "update_run"):
            broken.setattr(real, name, failing(getattr(real, name)))
        runs.settle()
    halfway = list(study.glob("trials/*/mlflow.json"))
    assert 0 < len(halfway) < 15
    runs.finish("FINISHED")
    assert (
        run_of(study / "trials/010", store).info.status == "KILLED"
        and len(list(study.glob("trials/*/mlflow.json"))) == 15
    )
    parent = run_of(study, store).info.run_id
    experiment = client(store).get_experiment_by_name(EXPERIMENT).experiment_id
    children = client(store).search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    assert len(children) == 15  # none was opened twice


def test_without_mlflow_one_sentence(
    study: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("esl_dist.studies.mlflow.importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(logging.getLogger("esl_dist"), "propagate", True)
    with caplog.at_level("INFO", "esl_dist"):
        runs = StudyRuns(study, "sqlite:///none.db", EXPERIMENT)
        runs.settle()
        runs.finish("FINISHED")
    assert len([r for r in caplog.records if "mlflow is not installed" in r.message]) == 1 and not list(
        study.rglob("mlflow.json")
    )
