"""Methods as a user runs them: the MaxSquare protocol with CBST rounds and an averaged teacher, and a term of the
user's own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TINY = [
    "tracking.mlflow=false",
    "run.threads=1",
    "eval.bn_statistics=[running]",
    "data.streets.size=[64,32]",
    "initial.steps=2",
    "source.steps=2",
    "selftrain.steps=4",
]
TINY += [f"{key}=[64,32]" for key in ("data.source.size", "data.target.size", "extract.size", "eval.input_size")]

MAXSQUARE = ["run.stages=[initial,source,'align:iw_maxsquare','selftrain:cbst']", "align.init=source", "align.steps=2"]
MAXSQUARE += [
    "align.weight=0.09",
    "align.weight_aux=0",
    "align.self_guidance=true",
    "align.guidance_threshold=0.2",
    "data.mirror=0.5",
    "data.blur=0.5",
]
MAXSQUARE += ["selftrain.rounds=2", "selftrain.ema=0.9", "selftrain.init=teacher", "pseudo_labels.temperature=2"]

USER_TERM = '''
"""Focal entropy (a user's own file): entropy weighted by how uncertain a pixel is, both heads."""

import math

import torch


def focal_entropy(logits_main, logits_aux):
    """Logits [N, C, H, W] at crop size (aux None for one head) to a loss, a mean over the images of this rank."""
    total = logits_main.new_zeros(())
    for logits, weight in ((logits_main, 1.0), (logits_aux, 0.2)):
        if logits is None:
            continue
        log_prob = torch.log_softmax(logits, dim=1)
        entropy = -(log_prob.exp() * log_prob).sum(dim=1) / math.log(logits.shape[1])
        total = total + weight * (entropy.detach() * entropy).mean()
    return total
'''


def train(folder: Path, *words: str, ranks: int = 1, path: Path | None = None) -> Path:
    """Run the program with the smoke configuration, made smaller, in ``folder/run``."""
    launcher = (
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        if ranks > 1
        else [sys.executable]
    )
    command = [
        *launcher,
        "-m",
        "esl_dist.train",
        "--config",
        "configs/smoke.yaml",
        *TINY,
        f"run.dir={folder}/run",
        f"data.root={folder}/data",
        *words,
    ]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(str(p) for p in (ROOT, path) if p),
    }
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-4000:]
    return folder / "run"


def events(run: Path, kind: str) -> list[dict]:
    return [
        event
        for line in (run / "metrics.jsonl").read_text().splitlines()
        if (event := json.loads(line))["event"] == kind
    ]


def weights(run: Path, stage: str, name: str) -> dict[str, torch.Tensor]:
    return torch.load(run / stage / "checkpoints" / "step_00000004" / f"{name}.pt", weights_only=True)


def same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_maxsquare_protocol_with_rounds_and_an_averaged_teacher(ranks: int, tmp_path: Path) -> None:
    run = train(tmp_path, *MAXSQUARE, ranks=ranks)
    assert json.loads((run / "align-iw_maxsquare" / "stage.json").read_text())["init"] == "source"
    losses = next(e for e in events(run, "train") if e["stage"] == "align-iw_maxsquare")
    assert (
        losses["loss/iw_maxsquare_main"] < 0
        and losses["loss/guidance_aux"] > 0
        and "loss/iw_maxsquare_aux" not in losses
    )

    # Rounds: the portion grows, the last round's average makes the labels, and how far the two sets agree is logged.
    sets = [json.loads((run / "pseudo_labels" / name / "thresholds.json").read_text()) for name in ("cbst", "cbst-r2")]
    assert [s["portion"] for s in sets] == [0.2, 0.25]
    first, second = events(run, "labels")
    assert (
        "agreed" not in first
        and second["round"] == 2
        and 0 <= second["agreed"] <= second["both_kept"] <= min(first["coverage"], second["coverage"])
    )
    teacher, student = weights(run, "selftrain-cbst", "segmenter"), weights(run, "selftrain-cbst", "student")
    assert not same(teacher, student)
    done = json.loads((run / "selftrain-cbst-r2" / "stage.json").read_text())
    assert done["init"] == done["teacher"] == "selftrain-cbst"

    # A round killed after its second step: average, student and batch-norm statistics end with the same bits.
    finished = {name: weights(run, "selftrain-cbst-r2", name) for name in ("segmenter", "student")}
    (run / "selftrain-cbst-r2" / "done.json").unlink()
    shutil.rmtree(run / "selftrain-cbst-r2" / "checkpoints" / "step_00000004")
    train(tmp_path, *MAXSQUARE, ranks=ranks)
    for name, expected in finished.items():
        assert same(weights(run, "selftrain-cbst-r2", name), expected), name


def test_labels_weighted_by_confidence(tmp_path: Path) -> None:
    words = ["run.stages=[initial,'selftrain:esl']", "selftrain.objective=none", "data.mirror=0.5"]
    plain = weights(train(tmp_path / "plain", *words), "selftrain-esl", "segmenter")
    (tmp_path / "weighted").mkdir()
    shutil.move(tmp_path / "plain" / "data", tmp_path / "weighted" / "data")
    words.append("selftrain.label_weight=confidence")
    run = train(tmp_path / "weighted", *words)
    finished = weights(run, "selftrain-esl", "segmenter")
    assert not same(finished, plain)
    sets = [
        json.loads((folder / "run/pseudo_labels/esl/thresholds.json").read_text())
        for folder in (tmp_path / "plain", tmp_path / "weighted")
    ]
    assert sets[0]["labels"] == sets[1]["labels"] and "weights" in sets[1]
    # Killed after its second step.
    (run / "selftrain-esl" / "done.json").unlink()
    shutil.rmtree(run / "selftrain-esl" / "checkpoints" / "step_00000004")
    assert same(weights(train(tmp_path / "weighted", *words), "selftrain-esl", "segmenter"), finished)


def test_a_users_own_term_beside_a_published_one(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(USER_TERM)
    words = [
        "run.stages=[initial,align]",
        "align.objective=mine:focal_entropy",
        "align.weight=0.1",
        "align.also=[{objective: advent, weight: 0.001}]",
        "align.steps=2",
    ]
    run = train(tmp_path, *words, path=tmp_path)
    (losses,) = events(run, "train")[-1:]
    assert losses["loss/focal_entropy"] > 0 and losses["loss/adv_main"] > 0 and losses["loss/d_main_source"] > 0
    assert (run / "align" / "checkpoints" / "step_00000002" / "d_main.pt").is_file() and not list(run.rglob("d_aux.pt"))
