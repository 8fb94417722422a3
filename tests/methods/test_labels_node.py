"""When the label sets of a teacher count as made."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from esl_dist.methods.labels import Labels
from esl_dist.runs import RunFolder
from esl_dist.runs.content import LabelsMade, MadeSet


@pytest.mark.parametrize(
    ("labels", "unreadable", "done"),
    [
        (["a", "b/c"], [], True),
        (["a"], ["b/c"], True),  # named in thresholds.json: nothing is missing
        (["a"], [], False),
        (["a", "b/c", "d"], [], False),  # made for another list of images
        (["a", "d"], [], False),
    ],
)
def test_a_set_is_made_when_every_image_has_a_label_or_is_named(
    tmp_path: Path, labels: list[str], unreadable: list[str], done: bool
) -> None:
    run = RunFolder(tmp_path)
    made = run.labels.set("esl")
    for name in labels:
        made.label(name).parent.mkdir(parents=True, exist_ok=True)
        made.label(name).touch()
    content: dict[str, Any] = {"rule": "esl", "images": len(labels), "classes": []}
    if unreadable:
        content["unreadable"] = dict.fromkeys(unreadable, "truncated")
    made.thresholds.path.write_text(json.dumps(content))
    run.labels.of("initial").path.mkdir()
    run.labels.of("initial").made.write(
        LabelsMade("initial", 1, "0" * 64, {"esl": MadeSet("esl", "", "")}, "", 1.0, {})
    )
    work: Any = SimpleNamespace(
        run=run, runtime=SimpleNamespace(is_main=True), target=SimpleNamespace(names=["a", "b/c"])
    )
    assert Labels("initial", ("selftrain",), {"esl": "esl"}).is_done(work) is done
