"""Scoring while training: every so many steps, the best checkpoint kept, and not one bit of the training changed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from esl_dist import methods
from esl_dist.engine import checkpoint
from esl_dist.entries import cli, train
from esl_dist.entries import evaluate as score_again
from esl_dist.methods import Stage, scoring
from esl_dist.methods.node import Work
from esl_dist.metrics.counting import Counter
from esl_dist.reporting.record import read_run
from esl_dist.runs import RunFolder
from esl_dist.runs.events import Eval

ROOT = Path(__file__).resolve().parents[2]
ONE_STAGE = [
    "run.stages=[align]",
    "align.steps=6",
    "checkpoint.every=1",
    "checkpoint.keep=1",
    "tracking.mlflow=false",
    "run.threads=1",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"data.root={tmp_path_factory.mktemp('every') / 'data'}"


def digest(run: Path) -> str:
    return str(json.loads((run / "align/done.json").read_text())["weights_sha256"])


def scores(run: Path) -> dict[int, float]:
    events = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return {e["step"]: e["miou"] for e in events if e["event"] == "eval" and e["bn_statistics"] == "running"}


def kept(run: Path) -> list[str]:
    return sorted(p.name for p in (run / "align/checkpoints").glob("step_*"))


def scripted(monkeypatch: pytest.MonkeyPatch, values: dict[int, float], stop_at: int = 0) -> None:
    """Evaluations that take their score from a table, and break the run off after one of them."""

    def evaluated(stage: Stage, predictor: object, kind: str, step: int, work: Work) -> SimpleNamespace:
        if step == stop_at:
            raise RuntimeError("killed")
        work.tracker.record(Eval(stage.name, step, bn_statistics=kind, miou=values[step]))
        return SimpleNamespace(miou=values[step])

    monkeypatch.setattr(scoring, "_evaluate", evaluated)
    monkeypatch.setattr(methods.stage, "score_final", lambda stage, work: None)


def test_two_ranks_train_the_same_with_and_without(tmp_path: Path, data: str) -> None:
    for every in (0, 4):
        words = [
            *ONE_STAGE,
            data,
            f"run.dir={tmp_path}/{every}",
            f"eval.every={every}",
            "eval.bn_statistics=[target,running]",
        ]
        launcher = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node=2",
            "-m",
            "esl_dist.train",
            "--config",
            "configs/smoke.yaml",
        ]
        ended = subprocess.run(
            [*launcher, *words],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
    assert digest(tmp_path / "0") == digest(tmp_path / "4")
    record = read_run(tmp_path / "4").stages[0]
    events = [json.loads(line) for line in (tmp_path / "4/metrics.jsonl").read_text().splitlines()]
    by_step = {e["step"]: e["miou"] for e in events if e["event"] == "eval" and e["bn_statistics"] == "target"}
    assert sorted(by_step) == [4, 6]
    assert sum(e["event"] == "eval" and e["bn_statistics"] == "target" for e in events) == 2, (
        "the last step is scored once"
    )
    words = [
        "--checkpoint",
        str(tmp_path / "4/align/checkpoints/step_00000006"),
        "--out",
        str(tmp_path / "again.json"),
        "eval.bn_statistics=[target]",
    ]
    assert score_again.main(["--config", "configs/smoke.yaml", data, "run.threads=1", *words]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["confusion"] == record.metrics["target"]["confusion"], (
        "the copy that is scored is the network that is saved"
    )
    assert by_step[6] == record.miou("target") == again["miou"]
    folder = RunFolder(tmp_path / "4").stage("align")
    assert folder.stripped(4) == folder.stripped(6) == folder.predicted() and len(folder.predicted()) == 4
    with (
        Image.open(folder.strip(6, folder.stripped(6)[0])) as strip,
        Image.open(folder.prediction(folder.predicted()[0])) as label,
    ):
        assert strip.height == label.height and strip.width == 3 * label.width + 8
    assert record.best == {"target": max(by_step.values())}
    assert checkpoint.best(tmp_path / "4/align/checkpoints") == max(
        ((s, m) for s, m in by_step.items()), key=lambda entry: (entry[1], -entry[0])
    )


def test_the_best_checkpoint_stays_beside_the_last(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, {2: 0.2, 4: 0.5, 6: 0.4})
    assert train.main(["--config", "smoke.yaml", *ONE_STAGE, data, f"run.dir={tmp_path}", "eval.every=2"]) == 0
    assert kept(tmp_path) == ["step_00000004", "step_00000006"]
    assert checkpoint.best(tmp_path / "align/checkpoints") == (4, 0.5)


def test_a_scored_step_is_saved_between_checkpoints(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, {3: 0.5, 6: 0.4})
    assert (
        train.main(
            ["--config", "smoke.yaml", *ONE_STAGE, data, f"run.dir={tmp_path}", "eval.every=3", "checkpoint.every=100"]
        )
        == 0
    )
    assert kept(tmp_path) == ["step_00000003", "step_00000006"]


def test_a_signal_while_scoring_stops_there_and_the_score_is_made_up_for(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "--config",
        "smoke.yaml",
        *ONE_STAGE,
        data,
        "eval.every=3",
        "eval.batch=1",
        "eval.bn_statistics=[running]",
        "checkpoint.every=100",
    ]
    assert train.main([*words, f"run.dir={tmp_path}/straight"]) == 0
    real, images = Counter.add, []

    def with_a_signal(*arguments: Any) -> Any:
        images.append(1)
        if len(images) in (2, 9):  # the second image of step 3; of step 6, after the five of step 3 made up for
            signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(Counter, "add", with_a_signal)
    broken = tmp_path / "broken"
    for saved in (["step_00000003"], ["step_00000003", "step_00000006"]):
        assert train.main([*words, f"run.dir={broken}"]) == 0
        assert kept(broken) == saved and not (broken / "align/done.json").exists()
    assert len(images) == 2 + 5 + 2
    assert train.main([*words, f"run.dir={broken}"]) == 0
    assert len(images) == 2 + 5 + 2 + 5, "each image of step 6 once, the end included"
    assert digest(broken) == digest(tmp_path / "straight") and scores(broken) == scores(tmp_path / "straight")
    for name in ("checkpoints/best.json", "metrics-running.json"):
        assert (broken / "align" / name).read_text() == (tmp_path / "straight/align" / name).read_text()

    images.clear()  # the entry that scores a checkpoint ends with 0 and leaves no half a file
    words = [
        "--config",
        "smoke.yaml",
        data,
        "eval.batch=1",
        "--checkpoint",
        str(broken / "align/checkpoints/step_00000006"),
        "--out",
        str(tmp_path / "scores.json"),
    ]
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: score_again.main(words))
    assert ended.value.code == 0 and len(images) == 2 and not (tmp_path / "scores.json").exists()


def test_a_broken_run_goes_on_with_its_best(tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--config", "smoke.yaml", *ONE_STAGE, data, f"run.dir={tmp_path}", "eval.every=2"]
    with monkeypatch.context() as first:
        scripted(first, {2: 0.5}, stop_at=4)
        with pytest.raises(RuntimeError, match="killed"):
            train.main(words)
    (tmp_path / "align/checkpoints/best.json").unlink()  # killed between the checkpoint and its mark
    assert kept(tmp_path)[-1] == "step_00000003"
    (tmp_path / "align/checkpoints/step_00000003").rename(tmp_path / "lost")
    scripted(monkeypatch, {4: 0.3, 6: 0.4})
    assert train.main(words) == 0
    assert checkpoint.best(tmp_path / "align/checkpoints") == (2, 0.5)
    assert kept(tmp_path) == ["step_00000002", "step_00000006"]
    assert scores(tmp_path) == {2: 0.5, 4: 0.3, 6: 0.4}
