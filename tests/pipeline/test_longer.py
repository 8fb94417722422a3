"""A finished stage whose ``steps`` are raised goes on from its last checkpoint; what was made from it is not kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from esl_dist.engine.adamw import Warmed
from esl_dist.engine.optim import Pieces, Poly
from esl_dist.entries import train
from esl_dist.methods import longer, scoring
from esl_dist.runs import RunFolder

CONFIG = str(Path(__file__).resolve().parents[1] / "chaos/chaos.yaml")
SMALL = ["run.device=cpu", "run.threads=1", "data.workers=0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"data.root={tmp_path_factory.mktemp('longer') / 'data'}"


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have tests of their own."""
    monkeypatch.setattr(train, "write_report", lambda run: "none")


def run(folder: Path, data: str, steps: int, *words: str, stages: str = "[source]") -> dict[str, Any]:
    """Train, and what ``done.json`` says of source."""
    asked = [f"run.dir={folder}", f"run.stages={stages}", f"source.steps={steps}", "align.steps=2"]
    assert train.main(["--config", CONFIG, *SMALL, data, *asked, *words]) == 0
    found: dict[str, Any] = json.loads((folder / "source/done.json").read_text())
    return found


def rates(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return {line["step"]: line["lr"] for line in lines if line["event"] == "train" and line["stage"] == "source"}


def test_a_schedule_of_its_own_length_makes_no_difference(
    tmp_path: Path, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own = "optim.decay_steps=20"
    whole = run(tmp_path / "whole", data, 5, own)
    short = run(tmp_path / "parts", data, 3, own)
    assert (tmp_path / "parts/source/metrics-running.json").is_file()
    long = run(tmp_path / "parts", data, 5, own)
    assert long["weights_sha256"] == whole["weights_sha256"] != short["weights_sha256"] and long["step"] == 5
    said = (tmp_path / "parts/log.txt").read_text()
    assert "source: trained longer, from step 3 of 3 on to 5: rates do not follow the stage's length" in said
    assert json.loads((tmp_path / "parts/source/stage.json").read_text())[longer.PARTS] == [[3, 3]]
    scores = json.loads((tmp_path / "parts/source/metrics-running.json").read_text())
    assert scores["weights_sha256"] == long["weights_sha256"] and scores["step"] == 5
    assert rates(tmp_path / "parts") == rates(tmp_path / "whole")
    events = [json.loads(line) for line in (tmp_path / "parts/metrics.jsonl").read_text().splitlines()]
    assert [e.get("parts") for e in events if e["event"] == "stage" and e["status"] == "start"] == [None, [[3, 3]]]
    run(tmp_path / "parts", data, 6, own)
    assert json.loads((tmp_path / "parts/source/stage.json").read_text())[longer.PARTS] == [[3, 3], [5, 5]]
    with pytest.raises(ValueError, match="was made with steps=6, now it is 5"):
        run(tmp_path / "parts", data, 5, own)


def test_a_decay_over_the_stage_is_that_of_each_part(
    tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["optim.decay_steps=0", "checkpoint.every=1", "checkpoint.keep=1", "optim.lr=0.01"]
    run(tmp_path / "run", data, 3, *words)
    shutil.copytree(tmp_path / "run", tmp_path / "killed")
    ended = run(tmp_path / "run", data, 6, *words)
    said = (tmp_path / "run/log.txt").read_text()
    assert "so it does not end as 6 steps in one go" in said
    base = 0.01
    expected = [base * Poly(3)(step) for step in range(3)] + [base * Poly(6)(step) for step in range(3, 6)]
    assert [rate for _, rate in sorted(rates(tmp_path / "run").items())] == pytest.approx(expected)
    # Broken off in its second part, and gone on with: the same bits.
    for step in (4, 5):
        with monkeypatch.context() as patch:
            patch.setattr(scoring, "score_while_training", None)
            patch.setattr("esl_dist.methods.stage.score_while_training", lambda *a, at=step: broken(at))
            with pytest.raises(KeyError, match="killed"):
                run(tmp_path / "killed", data, 6, *words)
        assert not (tmp_path / "killed/source/done.json").exists()
    again = run(tmp_path / "killed", data, 6, *words)
    assert again["weights_sha256"] == ended["weights_sha256"]


def broken(at: int) -> Any:
    def score(step: int) -> None:
        if step == at:
            raise KeyError("killed")

    return score


def test_a_stage_that_has_not_ended_is_trained_longer_too(tmp_path: Path, data: str, monkeypatch: Any) -> None:
    words = ["optim.decay_steps=20", "checkpoint.every=1"]
    with monkeypatch.context() as patch:
        patch.setattr("esl_dist.methods.stage.score_while_training", lambda *a: broken(3))
        with pytest.raises(KeyError):
            run(tmp_path / "run", data, 4, *words)
    long = run(tmp_path / "run", data, 5, *words)
    assert json.loads((tmp_path / "run/source/stage.json").read_text())[longer.PARTS] == [[2, 4]]
    assert long["weights_sha256"] == run(tmp_path / "whole", data, 5, *words)["weights_sha256"]


def test_what_was_made_from_it_is_named_and_nothing_is_touched(tmp_path: Path, data: str) -> None:
    words = {"stages": "[source,align,selftrain]"}
    more = ["selftrain.steps=1", "align.init=source", "extract.batch=1"]
    run(tmp_path / "run", data, 2, *more, **words)
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.json")}
    with pytest.raises(ValueError, match="Delete in") as refused:
        run(tmp_path / "run", data, 4, *more, **words)
    assert "what was made from it no longer is of it: align, labels of align, selftrain." in str(refused.value)
    assert {path: path.read_bytes() for path in before} == before
    for name in ("align", "selftrain", "pseudo_labels/of-align", "pseudo_labels/esl"):
        assert name in str(refused.value)
        shutil.rmtree(RunFolder(tmp_path / "run").path / name)
    made = run(tmp_path / "run", data, 4, *more, **words)
    assert json.loads((tmp_path / "run/align/stage.json").read_text())["weights of init"] == made["weights_sha256"]


def test_pieces() -> None:
    joined = longer.joined(Poly(8, hold=0.5), [[2, 4], [4, 4]])
    assert isinstance(joined, Pieces)
    assert [joined(step) for step in range(8)] == [
        *(Poly(4, hold=0.5)(step) for step in range(4)),
        *(Poly(8, hold=0.5)(step) for step in range(4, 8)),
    ]
    warmed = longer.joined(Warmed(8, warmup=2), [[4, 4]])
    assert warmed(3) == Warmed(4, warmup=2)(3) and warmed(4) == Warmed(8, warmup=2)(4)
    fixed = Poly(100, of_stage=False)
    assert longer.joined(fixed, [[4, 4]]) is fixed and fixed.over(9) is fixed
