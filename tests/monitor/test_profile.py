"""Real traces: the steps that were asked for, the parts of a training step by name, one file per stage and rank."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import get_args

import torch

from esl_dist.config.profile import ProfileConfig
from esl_dist.entries import train
from esl_dist.monitor.profile import Phase, StepProfiler

ROOT = Path(__file__).resolve().parents[2]


def names(trace: Path) -> list[str]:
    return [str(event.get("name")) for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]]


def test_trace_of_the_steps_asked_for(tmp_path: Path) -> None:
    trace = tmp_path / "profile" / "stage_rank0.json.gz"
    profiler = StepProfiler(ProfileConfig(start=2, steps=2), trace)
    for step in range(1, 7):
        with torch.profiler.record_function(f"step {step}"):
            torch.ones(4).sum()
        profiler.step(step)
    assert {f"step {s}" for s in range(1, 7)} & set(names(trace)) == {"step 3", "step 4"}


def test_no_steps_no_trace(tmp_path: Path) -> None:
    profiler = StepProfiler(ProfileConfig(start=1, steps=0), tmp_path / "trace.json.gz")
    for step in range(1, 4):
        profiler.step(step)
    profiler.close()
    assert list(tmp_path.iterdir()) == []


def test_a_trace_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "profile").touch()  # a file where the folder would be
    profiler = StepProfiler(ProfileConfig(start=1, steps=1), tmp_path / "profile" / "trace.json.gz")
    for step in range(1, 4):
        profiler.step(step)


def test_a_run_names_the_parts_of_its_steps_and_is_otherwise_the_same(tmp_path: Path) -> None:
    words = [
        "--config",
        str(ROOT / "configs/smoke.yaml"),
        "run.stages=[align]",
        "align.steps=4",
        "eval.split=''",
        "tracking.mlflow=false",
        "run.threads=1",
    ]
    words += [
        "data.streets.source_train=2",
        "data.streets.target_train=2",
        f"data.root={tmp_path}/data",
        "checkpoint.every=9",
    ]
    assert train.main([*words, f"run.dir={tmp_path}/plain"]) == 0
    assert train.main([*words, f"run.dir={tmp_path}/run", "profile.start=2", "profile.steps=2"]) == 0
    traces = tmp_path / "run" / "profile"
    assert [path.name for path in sorted(traces.iterdir())] == ["align_rank0.json.gz"]
    found = names(traces / "align_rank0.json.gz")
    assert set(get_args(Phase)) <= set(found)
    assert [found.count(name) for name in ("data", "all-reduce", "optimiser")] == [2, 2, 2]
    done = [
        json.loads((tmp_path / run / "align" / "done.json").read_text())["weights_sha256"] for run in ("plain", "run")
    ]
    assert done[0] == done[1]
