"""Places that cannot be written: each entry ends in one line that names them, wherever it comes to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from esl_dist.entries.failures import explained, one_line
from esl_dist.metrics.evaluate import EvaluationResult, write_metrics
from tests.hostile.recorded import run_folder
from tests.hostile.trial import call, complaint

PAIR = [
    "data.streets.source_train=2",
    "data.streets.target_train=2",
    "data.streets.target_val=1",
    "data.streets.target_test=1",
]


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--config", "smoke.yaml", "run.dir={file}/run", "data.root={folder}/data", "tracking.mlflow=false"],
        ["train", "--config", "smoke.yaml", "run.dir={folder}/run", "data.root={file}/x", "tracking.mlflow=false"],
        ["streets", "--out", "{file}/pair", "--source-train", "2"],
        ["prepare", "--config", "smoke.yaml", "data.root={file}/x"],
        ["prepare", "--config", "smoke.yaml", "data.root={folder}/data", "data.prepared={file}/x"],
        ["export", "--checkpoint", "{file}/x", "--out", "{folder}/x.onnx"],
        ["evaluate", "--config", "smoke.yaml", "--checkpoint", "{weights}", "--out", "{file}/x.json"],
        ["evaluate", "--config", "smoke.yaml", "--checkpoint", "{weights}", "--out", "{file}-folder"],
    ],
    ids=["run", "data", "streets", "originals", "prepared", "checkpoint", "scores", "scores-folder"],
)
def test_a_file_in_place_of_a_folder(words: list[str], tmp_path: Path) -> None:
    for name in ("file", "weights.pth"):
        (tmp_path / name).touch()
    (tmp_path / "file-folder").mkdir()
    pair = [] if words[0] in ("streets", "export") else PAIR
    places = {"file": tmp_path / "file", "folder": tmp_path, "weights": tmp_path / "weights.pth"}
    ended = call([word.format(**places) for word in words] + pair)
    assert complaint(ended) == "" and ended.code in (1, 2) and str(tmp_path / "file") in ended.err, ended
    assert (tmp_path / "file").read_bytes() == b""


def test_a_spool_without_a_place_is_found_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = ["train", "--config", "smoke.yaml", f"run.dir={tmp_path}/run", f"data.root={tmp_path}/data", *PAIR]
    words += ["tracking.mlflow=false", "run.stages=[initial,selftrain]", f"extract.spool_dir={tmp_path}/file/spools"]
    ended = call(words)
    assert ended.code in (1, 2) and not ended.trace, ended
    assert ended.err.splitlines()[-1] == f"esl_dist: error: {tmp_path}/file/spools: Not a directory"
    assert not (tmp_path / "run/initial").exists()


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    (tmp_path / "run/report.html").mkdir()
    ended = call(["report", str(run.path)])
    assert complaint(ended) == "" and ended.code in (1, 2) and "report.html" in ended.err, ended


def test_scores_that_cannot_be_written(tmp_path: Path) -> None:
    import numpy as np

    (tmp_path / "file").touch()
    result = EvaluationResult(np.eye(2, dtype=np.int64), ("a", "b"), 1, "crop")
    with pytest.raises(OSError) as failed:
        write_metrics(result, tmp_path / "file/metrics.json", {})
    found = explained(failed.value)
    assert found is not None and str(tmp_path / "file") in one_line(found[0])
