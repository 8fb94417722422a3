"""A trial in hand: followed, stopped, ended, recognised as another's twin. The training is a script that writes what a
training would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from esl_dist.config.study import StudyConfig
from esl_dist.runs import StudyFolder
from esl_dist.studies import shared, trial
from esl_dist.studies.child import Child
from esl_dist.studies.prepare import prepare
from esl_dist.studies.record import TrialRecord, log_tail
from esl_dist.studies.trial import TrialFailed, Work

# A training of the stage ``selftrain``: it says what it is told to say, and goes on until it is told to leave if it is
# to be endless.
TRAINING = """
import json, os, sys, time
run, said, code, endless = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "endless"
os.makedirs(f"{run}/selftrain", exist_ok=True)
with open(f"{run}/metrics.jsonl", "a") as log:
    for event in said:
        log.write(json.dumps(event) + "\\n")
        log.flush()
while endless:
    time.sleep(0.05)
if code:
    error = "esl_dist: error (rank 0): the disk is full"
    print(f"[rank0]: ValueError: deep inside\\n{error}\\ntorch...ChildFailedError:", flush=True)
else:
    json.dump({"miou": 0.5, "iou": {"road": 0.25}}, open(f"{run}/selftrain/metrics-running.json", "w"))
sys.exit(code)
"""


def score(step: int, miou: float | None, stage: str = "selftrain", kind: str = "running") -> dict[str, Any]:
    return {"event": "eval", "stage": stage, "step": step, "bn_statistics": kind, "miou": miou}


def labels(digest: str) -> dict[str, Any]:
    return {"event": "labels", "set": "esl", "rule": "esl", "stage": "align", "labels": digest}


class Study:
    """A study of two points whose trainings are scripts."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
        self.dir = folder / "study"
        self.said: dict[str, tuple[list[dict[str, Any]], int, str]] = {}
        self.started: list[list[str]] = []
        options = ("run.stages=[initial,align,selftrain]", "align.steps=4", "selftrain.steps=6")
        space = fields.pop("space", {"pseudo_labels.nu": {"grid": [0, 0.1]}})
        prepare(StudyConfig(dir=str(self.dir), base="smoke.yaml", options=options, space=space, **fields))
        monkeypatch.setattr(trial, "Child", self._child)
        monkeypatch.setattr(shared, "POLL_S", 0.02)

    def _child(
        self,
        world: int,
        module: str,
        arguments: list[str],
        run_dir: Path,
        log: Path,
        cwd: str,
        environment: dict[str, str],
    ) -> Child:
        self.started.append(arguments)
        said, code, endless = self.said[run_dir.parent.name]
        child = Child.__new__(Child)
        command = [sys.executable, "-c", TRAINING, str(run_dir), json.dumps(said), str(code), endless]
        log.parent.mkdir(parents=True, exist_ok=True)
        child._log = log
        with open(log, "ab") as out:
            child._process = subprocess.Popen(command, stdout=out, stderr=out)
        return child

    def script(self, name: str, *said: dict[str, Any], code: int = 0, endless: bool = False) -> None:
        self.said[name] = list(said), code, "endless" if endless else ""

    def work(self, name: str) -> Work:
        return Work(self.dir, name, str(self.dir))

    def record(self, name: str) -> TrialRecord:
        return TrialRecord.load(StudyFolder(self.dir).trial(name))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    return Study(tmp_path, monkeypatch)


def test_scores_while_training_then_the_final_one(study: Study) -> None:
    # initial 6 steps, align 4: steps count over the stages that the trial trains itself
    study.script(
        "000",
        score(6, 0.1, "initial"),
        score(2, 0.2, "align"),
        score(2, 0.9, "align", "target"),
        score(3, None),
        score(4, 0.3),
    )
    work = study.work("000")
    assert [work.advance() for _ in range(4)] == [
        {"step": 6, "score": 0.1, "done": False},
        {"step": 8, "score": 0.2, "done": False},
        {"step": 14, "score": 0.3, "done": False},
        {"step": 16, "score": 0.5, "done": True},
    ]
    record = study.record("000")
    assert (record.status, record.score, record.reason) == ("finished", 0.5, None) and record.seconds > 0
    assert study.started == [["--config", str(study.dir / "trials/000/config.yaml"), "tracking.mlflow=false"]]


def test_a_class_may_be_the_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(tmp_path, monkeypatch, metric="iou/road")
    study.script("000")
    assert study.work("000").advance() == {"step": 16, "score": 0.25, "done": True}


def test_a_failure_is_named_with_the_last_lines_of_its_log(study: Study) -> None:
    study.script("000", code=1)
    with pytest.raises(TrialFailed, match="the disk is full"):
        study.work("000").advance()
    record = study.record("000")
    assert (record.status, record.reason, record.score) == ("failed", "the disk is full", None)
    assert record.log_tail == log_tail(study.dir / "trials/000/log.txt") and "deep inside" in record.log_tail[0]


def test_a_failed_trial_has_no_score_of_its_way(study: Study) -> None:
    study.script("000", score(6, 0.1, "initial"), code=1)
    work = study.work("000")
    assert work.advance()["score"] == 0.1
    with pytest.raises(TrialFailed):
        work.advance()
    assert (study.record("000").status, study.record("000").score) == ("failed", None)


def test_a_score_on_the_way_is_none_of_another_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(tmp_path, monkeypatch, metric="iou/road")
    study.script("000", score(6, 0.1, "initial"), endless=True)
    work = study.work("000")
    assert work.advance()["score"] == 0.1 and study.record("000").score is None
    work.leave()


def test_who_is_told_to_leave_goes_on_later_and_tells_earlier_scores_again(study: Study) -> None:
    study.script("000", score(6, 0.1, "initial"), endless=True)
    work = study.work("000")
    assert work.advance()["score"] == 0.1
    work.leave()
    assert study.record("000").status == "queued" and study.record("000").score == 0.1
    study.script("000", score(4, 0.3))
    again = study.work("000")
    assert [again.advance()["score"] for _ in range(3)] == [0.1, 0.3, 0.5]
    again.leave()  # Ray may ask twice
    assert study.record("000").status == "finished"


def test_a_rewritten_record_tells_no_step_twice(study: Study) -> None:
    """A resumed run drops the lines beyond its checkpoint and writes them again."""
    study.script("000", score(6, 0.1, "initial"), score(2, 0.2, "align"), endless=True)
    work = study.work("000")
    assert [work.advance()["score"] for _ in range(2)] == [0.1, 0.2]
    path = study.dir / "trials/000/run/metrics.jsonl"
    aside = path.with_suffix(".new")
    aside.write_text(
        "".join(
            json.dumps(event) + "\n"
            for event in (score(6, 0.1, "initial"), score(2, 0.2, "align"), score(4, 0.25, "align"))
        )
    )
    os.replace(aside, path)
    assert work.advance() == {"step": 10, "score": 0.25, "done": False}
    work.leave()


def test_a_scheduler_leaves_word_of_its_stop(study: Study) -> None:
    study.script("000", score(2, 0.2, "align"), endless=True)
    work = study.work("000")
    work.advance()
    (study.dir / "trials/000/decision.json").write_text('{"by": "asha"}')
    work.leave()
    record = study.record("000")
    assert (record.status, record.stopped_by, record.score) == ("stopped", "asha", 0.2) and record.ended is not None


def test_the_stop_of_the_study_stops_a_silent_training(study: Study) -> None:
    study.script("000", endless=True)
    work = study.work("000")
    (study.dir / "stop").touch()
    began = time.monotonic()
    assert work.advance()["done"] and time.monotonic() - began < 10
    assert study.record("000").status == "queued"


def test_the_same_labels_are_not_trained_on_twice(study: Study) -> None:
    study.script("000", labels("abc"))
    study.script("001", labels("abc"), endless=True)
    study.work("000").advance()
    assert study.work("001").advance() == {"step": 0, "score": 0.5, "done": True}
    record = study.record("001")
    assert (record.status, record.same_as, record.score) == ("reused", "000", 0.5)


def test_other_labels_or_another_seed_are_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(tmp_path, monkeypatch, seeds=(1, 2))
    for name, digest in (("000", "abc"), ("001", "other"), ("002", "abc"), ("003", "other")):
        study.script(name, labels(digest))
        study.work(name).advance()
        assert study.record(name).status == "finished", name


def test_two_rounds_are_not_compared_by_the_labels_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = Study(
        tmp_path,
        monkeypatch,
        space={"pseudo_labels.nu": {"grid": [0, 0.1]}, "selftrain.rounds": {"grid": [2]}},
        stage="selftrain",
    )
    for name in ("000", "001"):
        study.script(name, labels("abc"))
        study.work(name).advance()
        assert study.record(name).status == "finished"


def test_a_twin_that_nobody_has_in_hand_is_not_waited_for(study: Study) -> None:
    study.script("001", labels("abc"), score(6, 0.1, "initial"), endless=True)
    first = study.work("001")
    first.advance()
    first.leave()
    assert study.record("001").status == "queued"
    study.script("000", labels("abc"))
    study.work("000").advance()
    assert study.record("000").status == "finished"
    again = study.work("001")
    assert again.advance()["score"] == 0.5
    assert (study.record("001").status, study.record("001").same_as) == ("reused", "000")


def test_a_twin_of_a_failed_trial_is_trained(study: Study) -> None:
    study.script("000", labels("abc"), code=1)
    with pytest.raises(TrialFailed):
        study.work("000").advance()
    study.script("001", labels("abc"))
    study.work("001").advance()
    assert study.record("001").status == "finished"


def test_a_trial_sees_no_gpu_that_it_was_not_given() -> None:
    assert trial.environment(StudyConfig(space={"optim.lr": {"grid": [1]}})) == {"CUDA_VISIBLE_DEVICES": ""}
    assert trial.environment(StudyConfig(space={"optim.lr": {"grid": [1]}}, gpus=1)) == {}


def test_shared_stages_that_are_gone_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(tmp_path, monkeypatch, shared=("initial", "align"))
    with pytest.raises(TrialFailed, match="the shared stages cannot be taken over"):
        study.work("000").advance()
    assert study.record("000").status == "failed" and not study.started


def test_finished_stages_are_taken_over_without_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = Study(tmp_path, monkeypatch, shared=("initial", "align"))
    part = json.loads((study.dir / "trials/000/part.json").read_text())["part"]
    for stage in ("initial", "align"):
        weights = study.dir / "shared" / part / stage / "checkpoints/step_00000006/segmenter.pt"
        weights.parent.mkdir(parents=True)
        weights.write_text(stage)
    study.script("000", score(6, 0.9, "initial"), score(6, 0.3))
    work = study.work("000")
    assert [work.advance() for _ in range(2)] == [
        {"step": 6, "score": 0.3, "done": False},
        {"step": 6, "score": 0.5, "done": True},
    ]
    taken = study.dir / "trials/000/run/align/checkpoints/step_00000006/segmenter.pt"
    assert taken.samefile(study.dir / "shared" / part / "align/checkpoints/step_00000006/segmenter.pt")
