"""Miniatures of the smaller sets in their owners' trees, through the data check, training and scoring."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esl_dist.config.load import load_config
from esl_dist.diagnostics import datacheck
from esl_dist.entries import train
from tests.data import more_sets
from tests.pipeline.test_own_data import TINY

SIZE = (48, 32)


@pytest.mark.parametrize("name", ["acdc", "darkzurich", "foggy_cityscapes", "bdd100k"])
def test_a_miniature_trains_and_is_scored(tmp_path: Path, name: str) -> None:
    more_sets.urbansyn(tmp_path / "urbansyn", SIZE)
    more_sets.SETS[name](tmp_path / name, SIZE)  # type: ignore[call-arg]
    words = [f"data.root={tmp_path}", f"run.dir={tmp_path}/run", "run.stages=[source]", *TINY, "source.steps=1"]
    words += ["data.source.dataset=urbansyn", "data.source.root=urbansyn", "data.source.size=[48,32]"]
    words += [f"data.target.dataset={name}", f"data.target.root={name}", "data.target.split=train"]
    words += ["data.target.size=[48,32]", "eval.split=val", "eval.input_size=[48,32]", "data.streets.make=false"]
    found = {check.name: check for check in datacheck.check(load_config(None, words))}
    assert {check.status for check in found.values()} <= {"ok", "warning"} and "scored classes" in found
    assert train.main(words) == 0
    metrics = json.loads((tmp_path / "run/source/metrics-running.json").read_text())
    content = metrics.get("content", metrics)
    assert content["images"] == 1 and content["miou"] is not None
