"""Whole studies under Ray: shared once, killed and gone on with, stopped in order, faults named, trials stopped by
ASHA. Minutes long.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.studies.drill import StudyDrill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

GRID = """
name: drill
base: smoke.yaml
options: ["run.stages=[initial,source,align,selftrain]", "selftrain.steps=12", "run.log_every=1",
  "eval.bn_statistics=[target]", "tracking.mlflow=false"]
space: {pseudo_labels.nu: {grid: [0.75, 0.8, 0.85]}}
shared: [initial, source, align]
"""

FAULTS = """
name: faults
base: smoke.yaml
options: ["run.stages=[initial,source,align,selftrain]", "eval.bn_statistics=[target]", "tracking.mlflow=false"]
space:
  what:
    cases:
      good: {}
      crash: {align.objective: "crash_of_a_trial:boom"}
      nan: {align.objective: "crash_of_a_trial:steep"}
      never: {data.source.root: nowhere}
      bad: {pseudo_labels.nu: 3}
      better: {pseudo_labels.nu: 0.9}
shared: [initial]
"""
# steep: the root's derivative at 0 is infinite, so the loss is 0 and its gradient is not a number.
CRASH = """
import os

def boom(main, aux):
    os.kill(os.getpid(), 9)

def steep(main, aux):
    return (main - main.detach()).square().mean().sqrt()
"""

ASHA = """
name: asha
base: smoke.yaml
options: ["run.stages=[initial,source,align,selftrain]", "selftrain.steps=12", "run.log_every=1",
  "eval.every=2", "eval.bn_statistics=[target]", "tracking.mlflow=false"]
space:
  align.weight: {loguniform: [0.001, 1]}
  selftrain.weight: {uniform: [0.1, 2]}
  pseudo_labels.nu: {choice: [0, 0.8, 0.9]}
search: optuna
trials: 6
shared: [initial, source]
scheduler: asha
grace: 2
reduction: 2
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data") / "smoke"


@pytest.fixture(scope="module")
def unhurt(data: Path, tmp_path_factory: pytest.TempPathFactory) -> StudyDrill:
    drill = StudyDrill(tmp_path_factory.mktemp("unhurt"), data, GRID)
    assert drill.finish() == 0, drill.output()
    return drill


def test_the_network_labels_once_for_all_trials(unhurt: StudyDrill) -> None:
    assert [record["status"] for record in unhurt.records().values()] == ["finished"] * 3
    for trial in unhurt.records():
        (labels,) = unhurt.events(unhurt.dir / "trials" / trial / "run", "labels")
        assert labels["network"] == "not run"
        assert [
            e["stage"]
            for e in unhurt.events(unhurt.dir / "trials" / trial / "run", "stage")
            if e["status"] == "skipped"
        ] == ["initial", "source", "align"]
        assert not (unhurt.dir / "trials" / trial / "run/pseudo_labels/spool").exists()
    assert len(list(unhurt.dir.glob("shared/*/labels-*/spool"))) == 1
    (log,) = unhurt.dir.glob("shared/*/child.txt")
    assert log.read_text().count("thresholds: ") == 1, "one extraction"


def test_nothing_is_left_and_the_same_command_has_nothing_to_do(unhurt: StudyDrill) -> None:
    before = unhurt.outcome()
    assert not unhurt.left()
    assert unhurt.finish() == 0 and "3 of 3 trials are done already" in unhurt.output()
    assert unhurt.outcome() == before


@pytest.mark.parametrize("moment", ["shared", "trial"])
def test_a_killed_driver_loses_and_repeats_nothing(unhurt: StudyDrill, moment: str, data: Path, tmp_path: Path) -> None:
    drill = StudyDrill(tmp_path, data, GRID)
    process = drill.start()
    begun = {
        "shared": lambda: list(drill.dir.glob("shared/*/source/checkpoints/step_*")),
        "trial": lambda: ("selftrain", 3) in drill.steps("001"),
    }[moment]
    drill.wait_until(begun, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not drill.left(), "processes outlive the driver"
    assert {record["status"] for record in drill.records().values()} <= {"queued", "running", "finished"}
    assert drill.finish() == 0, drill.output()
    hurt, whole = drill.outcome(), unhurt.outcome()
    for what in whole:
        assert hurt[what] == whole[what], what


def test_ctrl_c_once_stops_in_order(unhurt: StudyDrill, data: Path, tmp_path: Path) -> None:
    drill = StudyDrill(tmp_path, data, GRID)
    process = drill.start()
    drill.wait_until(lambda: ("selftrain", 2) in drill.steps("000"), process)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(120) == 130
    assert not drill.left() and "the same command goes on" in drill.output()
    assert drill.records()["000"]["status"] == "queued"
    assert drill.finish() == 0, drill.output()
    assert drill.outcome() == unhurt.outcome()


def test_ctrl_c_twice_stops_at_once(data: Path, tmp_path: Path) -> None:
    drill = StudyDrill(tmp_path, data, GRID)
    process = drill.start()
    drill.wait_until(lambda: drill.steps("000"), process)
    os.kill(process.pid, signal.SIGINT)
    drill.wait_until(lambda: (drill.dir / "stop").exists(), process)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(20) == 130
    assert not drill.left()


def test_faults_are_named_and_the_study_goes_on(data: Path, tmp_path: Path) -> None:
    tmp_path.joinpath("crash_of_a_trial.py").write_text(CRASH)
    drill = StudyDrill(tmp_path, data, FAULTS)
    assert drill.finish(PYTHONPATH=os.pathsep.join([os.environ.get("PYTHONPATH", os.getcwd()), str(tmp_path)])) == 0, (
        drill.output()
    )
    records = {record["params"]["what"]: record for record in drill.records().values()}
    assert {name: record["status"] for name, record in records.items()} == {
        "good": "finished",
        "crash": "failed",
        "nan": "failed",
        "never": "failed",
        "bad": "failed",
        "better": "finished",
    }
    assert "Signal 9 (SIGKILL)" in records["crash"]["reason"]
    assert "gradient is not finite" in records["nan"]["reason"]
    assert "nowhere" in records["never"]["reason"]
    assert records["bad"]["reason"].startswith("pseudo_labels.nu: must be between 0 and 1")
    assert records["crash"]["log_tail"] and records["nan"]["log_tail"]
    for record in records.values():
        assert record["status"] != "failed" or str(record["reason"]) in drill.output()


def test_asha_stops_and_optuna_goes_on_where_it_was(data: Path, tmp_path: Path) -> None:
    drill = StudyDrill(tmp_path, data, ASHA)
    process = drill.start()
    drill.wait_until(lambda: "003" in drill.records() and drill.steps("003"), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not drill.left()
    done = {name: record for name, record in drill.records().items() if record["status"] in ("finished", "stopped")}
    params = {name: record["params"] for name, record in drill.records().items()}
    assert drill.finish() == 0, drill.output()
    records = drill.records()
    assert len(records) == 6 and all(
        record["status"] in ("finished", "stopped", "reused") for record in records.values()
    )
    assert all(records[name] == record for name, record in done.items()), "what was done is left as it was"
    assert all(records[name]["params"] == point for name, point in params.items())
    stopped = [record for record in records.values() if record["status"] == "stopped"]
    assert stopped and all(record["stopped_by"] == "asha" and record["score"] is not None for record in stopped)
    for name in records:
        steps = drill.steps(name)
        assert len(steps) == len(set(steps)), "a step twice"
    assert json.loads((drill.dir / "trials/000/part.json").read_text())["part"]
