"""A finished run that is started again with other options of evaluation is scored by them, not shown as if it were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from esl_dist.entries import train
from esl_dist.reporting.record import read_run

ONE = ["run.stages=[initial]", "initial.steps=2", "tracking.mlflow=false", "run.threads=1", "eval.every=1"]


def test_other_options_are_another_score(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"

    def call(*words: str) -> dict[str, Any]:
        common = ["--config", "smoke.yaml", f"data.root={tmp_path / 'data'}", f"run.dir={run}", *ONE]
        assert train.main([*common, *words]) == 0
        found: dict[str, Any] = json.loads((run / "initial/metrics-running.json").read_text())
        return found

    both = call("eval.split=val", "eval.bn_statistics=[running,target]")
    assert both["split"] == "val" and both["images"] == 4 and (run / "initial/metrics-target.json").is_file()
    capfd.readouterr()
    assert call("eval.split=val", "eval.bn_statistics=[running,target]") == both
    assert "scored again" not in capfd.readouterr().err
    # Fewer images: both are scored anew.
    few = call("eval.split=val", "eval.bn_statistics=[running,target]", "eval.images=2")
    assert few["images"] == 2 and json.loads((run / "initial/metrics-target.json").read_text())["images"] == 2
    assert "initial: scored again: it was with eval.images=0, now it is 2" in capfd.readouterr().err
    # Another split with one statistic: what is no longer asked for does not stand beside it.
    other = call("eval.split=test", "eval.bn_statistics=[running]")
    said = capfd.readouterr()
    assert other["split"] == "test" and other["images"] == 5 and "mIoU (%) on 5 images of test" in said.out
    assert not (run / "initial/metrics-target.json").exists()
    assert read_run(run).stages[0].best == {}  # what was scored on the way was on another split
    # A record of before, which says the split alone.
    path = run / "initial/metrics-running.json"
    content = {key: value for key, value in other.items() if key not in ("options", "record_sha256")}
    path.write_text(json.dumps(content))
    assert "options" not in call("eval.split=test") and call("eval.split=val")["split"] == "val"
