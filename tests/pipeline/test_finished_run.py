"""A finished run started again: nothing is loaded, hashed twice or written."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from esl_dist.entries import train
from esl_dist.metrics import inference

OPTIONS = ["run.stages=[initial,align,selftrain]", "run.device=cpu", "tracking.mlflow=false", "selftrain.rounds=2"]


def test_a_finished_run_loads_no_network_and_appends_no_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    command = ["--config", "configs/smoke.yaml", *OPTIONS, f"run.dir={run}", f"data.root={tmp_path}/data"]
    assert train.main(command) == 0
    first = capsys.readouterr().out
    files = {path: path.read_bytes() for path in run.rglob("*") if path.suffix in (".jsonl", ".pt", ".png", ".json")}

    hashed: Counter[str] = Counter()
    digest = hashlib.file_digest

    def counted(file: Any, name: str) -> Any:
        hashed[file.name] += 1
        return digest(file, name)

    def none_is_loaded(*arguments: object, **more: object) -> None:
        raise AssertionError("a finished run needs no network")

    monkeypatch.setattr(hashlib, "file_digest", counted)
    monkeypatch.setattr(inference.Predictor, "from_checkpoint", none_is_loaded)
    monkeypatch.setattr(inference.Predictor, "_reestimate", none_is_loaded)
    assert train.main(command) == 0
    assert hashed and set(hashed.values()) == {1}, "each file of a final checkpoint once"
    assert {path: path.read_bytes() for path in files} == files
    assert capsys.readouterr().out == first

    # ``fastest`` is fp32 on a CPU: whether it is named so is no other recipe (a run of 0.1 recorded fp32).
    assert train.main([*command, "extract.precision=fp32"]) == 0
    assert {path: path.read_bytes() for path in files} == files

    # What is only asked for now is not measured any more, and that is said.
    capsys.readouterr()
    assert train.main([*command, "extract.compare=2"]) == 0
    said = capsys.readouterr().err
    assert "labels of align were made before extract.compare was set" in said and "extract --evidence" in said
    assert {path: path.read_bytes() for path in files} == files
