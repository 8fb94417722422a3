"""The program as a user runs it, on the smoke configuration: every stage, twice, interrupted, and extraction at several
world sizes.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAST = ["tracking.mlflow=false", "run.threads=1"]


def command(module: str, ranks: int, *words: str) -> list[str]:
    launcher = (
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        if ranks > 1
        else [sys.executable]
    )
    return [*launcher, "-m", f"esl_dist.{module}", "--config", "configs/smoke.yaml", *words]


def run(module: str, ranks: int, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command(module, ranks, *words), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280
    )
    assert (ended.returncode == 0) == ok, ended.stdout[-2000:] + ended.stderr[-4000:]
    return ended


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("recipe")


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    """A finished run on two ranks."""
    ended = run("train", 2, *FAST, f"run.dir={folder}/run", f"data.root={folder}/data")
    assert "report:" in ended.stdout
    return folder / "run"


def digests(run_dir: Path) -> dict[str, str]:
    return {p.parent.name: json.loads(p.read_text())["weights_sha256"] for p in sorted(run_dir.glob("*/done.json"))}


def label_hashes(out: Path) -> dict[str, str]:
    return {
        p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted((out / "labels").rglob("*.png"))
    }


def test_every_stage_leaves_its_result(finished: Path) -> None:
    stages = ["align", "align-bn", "initial", "oracle", "selftrain-esl", "selftrain-ssl", "source"]
    assert sorted(digests(finished)) == stages
    for stage in stages:
        for kind in ("running", "target"):
            metrics = json.loads((finished / stage / f"metrics-{kind}.json").read_text())
            assert 0 <= metrics["miou"] <= 1 and len(metrics["confusion"]) == 19
    for rule in ("ssl", "esl"):
        assert len(label_hashes(finished / "pseudo_labels" / rule)) == 12
    assert "<html" in (finished / "report.html").read_text()
    steps = [
        e["step"]
        for e in map(json.loads, (finished / "metrics.jsonl").read_text().splitlines())
        if e["event"] == "train" and e["stage"] == "align"
    ]
    assert steps == [2, 4]


def test_the_same_command_again_does_nothing(finished: Path, folder: Path) -> None:
    before = digests(finished)
    times = {p: p.stat().st_mtime_ns for p in finished.rglob("*.pt")}
    ended = run("train", 2, *FAST, f"run.dir={finished}", f"data.root={folder}/data")
    assert ended.stderr.count("already done, skipped") == 8
    assert digests(finished) == before and {p: p.stat().st_mtime_ns for p in finished.rglob("*.pt")} == times


def test_other_options_in_the_same_folder_are_refused(finished: Path, folder: Path) -> None:
    ended = run(
        "train", 1, *FAST, f"run.dir={finished}", f"data.root={folder}/data", "optim.batch=2", "optim.lr=0.5", ok=False
    )
    assert ended.returncode == 2
    assert "was made with optim.lr=0.01, now it is 0.5; choose another run.name" in ended.stderr


@pytest.mark.slow
def test_killed_and_started_again_is_bit_identical(finished: Path, folder: Path) -> None:
    words = [*FAST, f"run.dir={folder}/killed", f"data.root={folder}/data"]
    for _ in range(40):
        process = subprocess.Popen(
            command("train", 2, *words),
            cwd=ROOT,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        done = len(digests(folder / "killed"))
        deadline = time.monotonic() + 120
        # Kill as soon as the next stage has saved something, or when everything is done.
        while time.monotonic() < deadline and process.poll() is None and len(digests(folder / "killed")) == done:
            time.sleep(0.05)
        if process.poll() is not None:
            break
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert digests(folder / "killed") == digests(finished)


@pytest.mark.parametrize("ranks", [1, 3])
def test_extraction_is_the_same_for_every_world_size(finished: Path, folder: Path, ranks: int) -> None:
    checkpoint = finished / "align" / "checkpoints" / "step_00000004"
    out = folder / f"labels-{ranks}"
    run("extract", ranks, *FAST, f"data.root={folder}/data", "--checkpoint", str(checkpoint), "--out", str(out))
    reference = finished / "pseudo_labels" / "esl"  # made by the pipeline on two ranks
    ours, theirs = (json.loads((d / "thresholds.json").read_text()) for d in (out, reference))
    assert ours["classes"] == theirs["classes"] and ours["world_size"] == ranks
    assert label_hashes(out) == label_hashes(reference)


def test_evaluation_is_the_same_for_every_world_size(finished: Path, folder: Path) -> None:
    checkpoint = finished / "align" / "checkpoints" / "step_00000004"
    run(
        "evaluate",
        1,
        *FAST,
        f"data.root={folder}/data",
        "--checkpoint",
        str(checkpoint),
        "--out",
        str(folder / "m.json"),
        "eval.bn_statistics=[running]",
    )
    ours, theirs = (
        json.loads((folder / "m.json").read_text()),
        json.loads((finished / "align" / "metrics-running.json").read_text()),
    )
    assert ours["confusion"] == theirs["confusion"]
