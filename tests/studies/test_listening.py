"""What a running study listens on: Ray, its workers, and the ranks of a trial's training."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests import marked
from tests.entries.sockets import listening, outside
from tests.studies.drill import StudyDrill

STUDY = """
name: listening
base: smoke.yaml
options: ["run.stages=[initial,align]", "align.steps=2000", "run.log_every=1", "tracking.mlflow=false"]
space: {align.weight: {grid: [0.1]}}
ranks: 2
"""


@pytest.mark.slow
def test_a_study_and_its_trainings_listen_on_the_loopback_only(tmp_path: Path) -> None:
    drill = StudyDrill(tmp_path, tmp_path / "data", STUDY)
    process = drill.start()
    try:
        drill.wait_until(lambda: len(drill.steps("000")) > 6, process)  # its ranks are up and train
        places: dict[str, list[str]] = {}
        for pid, command in marked.processes(drill.mark).items():
            with contextlib.suppress(OSError):
                places[f"{pid} {command}"] = listening(pid)
    finally:
        drill.end()
    assert sum("esl_dist" in who and bool(where) for who, where in places.items()) >= 2, places  # store, gloo
    assert any("gcs_server" in who and where for who, where in places.items()), places
    assert {who: outside(where) for who, where in places.items() if outside(where)} == {}
