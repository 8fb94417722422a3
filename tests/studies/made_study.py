"""A study's folder as the driver leaves it, made up: trials in every state, two runs behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from esl_dist.runs import StudyFolder
from esl_dist.studies.record import TrialRecord

STUDY = """\
name: made
base: streets.yaml
options: [optim.batch=2]
space:
  pseudo_labels.nu: {grid: [0.0, 0.1, 0.3]}
  selftrain.weight: {grid: [0.5, 1.0]}
seeds: [1, 2]
shared: [source, align]
stage: selftrain-esl
scheduler: asha
"""
BEGAN = 1_790_000_000.0
SCORES = {
    (0.0, 0.5): (0.30, 0.32),
    (0.1, 0.5): (0.34, 0.35),
    (0.3, 0.5): (0.33, 0.31),
    (0.0, 1.0): (0.31, 0.29),
    (0.1, 1.0): (0.36, 0.32),
}


def make_study(path: Path, make_run: Callable[..., Path]) -> Path:
    """Ten trials that finished over two options and two seeds, one reused, stopped, failed, running and queued each."""
    path.mkdir(parents=True)
    (path / "study.yaml").write_text(STUDY)
    number = 0
    for (nu, weight), scores in SCORES.items():
        for seed, score in zip((1, 2), scores, strict=True):
            run = path.parent / f"run-{seed}"  # two runs stand for all of them
            if not run.is_dir():
                make_run(run, seed=seed)
            (trial(path, number, nu, weight, seed, score=score) / "run").symlink_to(run)
            number += 1
    trial(path, 10, 0.3, 1.0, 1, status="stopped", stopped_by="asha", score=0.2)
    trial(
        path,
        11,
        0.3,
        1.0,
        2,
        status="failed",
        reason="the gradient is <b>not finite</b>",
        log_tail=["step 3", "<script>"],
    )
    trial(path, 12, 0.29, 1.0, 1, status="reused", same_as="004", score=0.33)
    running = trial(path, 13, 0.28, 1.0, 1, status="running", ended=None)
    (running / "run").mkdir()
    (running / "run" / "metrics.jsonl").write_text(
        '{"event": "train", "stage": "align", "step": 20, "steps": 240, "time": 1.0, "loss/a": 2.5}\n{"event":'
        ' "train", "st'
    )
    trial(path, 14, 0.27, 1.0, 1, status="queued", started=None, ended=None, seconds=0.0)
    return path


def trial(study: Path, number: int, nu: float, weight: float, seed: int, **fields: Any) -> Path:
    """Write ``trials/<number>/trial.json`` and return its folder."""
    name, began = f"{number:03d}", BEGAN + 60 * (number // 2)
    made: dict[str, Any] = {
        "started": began,
        "ended": began + 55 + number,
        "seconds": 55.0 + number,
        "status": "finished",
        **fields,
    }
    record = TrialRecord(
        id=name,
        number=number,
        params={"pseudo_labels.nu": nu, "selftrain.weight": weight},
        seed=seed,
        run=f"trials/{name}/run",
        **made,
    )
    folder = StudyFolder(study).trial(name)
    folder.path.mkdir(parents=True, exist_ok=True)
    record.save(folder)
    return folder.path
