"""The control of a teacher method: its recipe on the source alone, in a run beside it, cut off and gone on with."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from esl_dist.config.load import load_config
from esl_dist.methods.plan import stages
from tests.methods.teacher.test_run import data, run, state, tensors

__all__ = ["data"]


def test_it_is_what_gains_are_counted_from() -> None:
    words = ["run.stages=['mic:source',mic]", "teacher.init=source"]
    control, method = stages(load_config("smoke.yaml", words))
    assert (control.name, control.title, control.role) == ("mic-source", "source-only", "baseline")
    assert control.needs.get("init", "") == "" and method.needs["init"] == "mic-source"
    assert control.settings != method.settings and control.steps == method.steps
    two = stages(load_config("smoke.yaml", ["run.stages=[initial,source,'mic:source']"]))
    assert [stage.title for stage in two[1:]] == ["source-only", "source-only, MIC"]


def test_it_trains_without_a_target(data: str, tmp_path: Path) -> None:
    """No teacher and no target in it. Cut off, it goes on with the same bits."""
    words = ("run.stages=['daformer:source']", "teacher.looks=dacs")
    assert run(tmp_path / "whole", data, *words) == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    stage = tmp_path / "cut" / "daformer-source"
    (stage / "done.json").unlink()
    shutil.rmtree(stage / "checkpoints" / "step_00000004")
    assert run(tmp_path / "cut", data, *words) == 0
    whole, cut = tensors(state(tmp_path / "whole" / "daformer-source")), tensors(state(stage))
    assert whole.keys() == cut.keys() and not any(key.startswith("/teacher/") for key in whole)
    assert all(torch.equal(whole[key], cut[key]) for key in whole)
    events = (tmp_path / "whole" / "metrics.jsonl").read_text()
    assert "source_main" in events and "mix_main" not in events
