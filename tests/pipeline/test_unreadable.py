"""One rule for files that cannot be read, from training over labels and self-training to scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from esl_dist.entries import train
from esl_dist.metrics import inference
from tests.diagnostics.test_starting import somebodys
from tests.pipeline.test_own_data import TINY


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A labelled source and a labelled target of one folder, each with a file that cannot be read."""
    root = somebodys(tmp_path / "yard", 12, 0)
    classes = "".join(f"  - {{name: c{i}, ids: [{i}]}}\n" for i in (3, 7, 8, 11, 19, 21, 40, 77, 101, 150, 200, 254))
    (tmp_path / "yard.yaml").write_text(f"ignore: [255]\nclasses:\n{classes}")
    (root / "train.txt").write_text("".join(f"day0/IMG_{i:04d}\n" for i in range(0, 12, 2)))
    (root / "val.txt").write_text("".join(f"day1/IMG_{i:04d}\n" for i in range(1, 12, 2)))
    for file in ("photos/day0/IMG_0002.jpg", "photos/day1/IMG_0003.jpg", "masks/day1/IMG_0005_mask.png"):
        (root / file).write_bytes((root / file).read_bytes()[:200])
    options = ["dataset=folder", "root=yard", "images=photos/*/*.jpg", "labels=masks/*/*_mask.png", "split=train"]
    made = [f"data.{domain}.{option}" for domain in ("source", "target") for option in (*options, "size=[96,64]")]
    sizes = ["eval.split=val", "eval.input_size=[96,64]", "extract.size=[96,64]", "data.streets.make=false"]
    return [
        *made,
        *sizes,
        f"data.root={tmp_path}",
        f"data.classes={tmp_path}/yard.yaml",
        f"run.dir={tmp_path}/run",
        *TINY,
    ]


@pytest.mark.slow
def test_within_the_bound_all_stages_go_on_and_name_them(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*words, "run.stages=[source,selftrain]", "source.steps=6"]
    assert train.main(command) == 0
    run = tmp_path / "run"
    thresholds = json.loads(next((run / "pseudo_labels").glob("*/thresholds.json")).read_text())
    assert list(thresholds["unreadable"]) == ["day0/IMG_0002"]
    assert not list((run / "pseudo_labels").glob("*/labels/day0/IMG_0002.png"))
    assert len(list((run / "pseudo_labels").glob("*/labels/day0/*.png"))) == 5
    scored = json.loads((run / "selftrain/metrics-running.json").read_text())
    assert list(scored["unreadable"]) == ["day1/IMG_0003", "day1/IMG_0005"] and scored["images"] == 4
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    files = {path: path.read_bytes() for path in run.rglob("*") if path.suffix in (".jsonl", ".pt", ".png", ".json")}
    replaced = [line for line in lines if line["event"] == "warning" and "unreadable" in line["text"]]
    assert sum("source" in line["text"] for line in replaced if line["stage"] == "source") == 1  # once, not per reading

    def nothing_is_loaded(*arguments: object, **more: object) -> None:
        raise AssertionError("a finished run needs no network")

    monkeypatch.setattr(inference.Predictor, "from_checkpoint", nothing_is_loaded)
    assert train.main(command) == 0  # nothing is missing: the labels name the image that has none
    assert {path: path.read_bytes() for path in files} == files


@pytest.mark.parametrize(("stages", "what"), [("source", "source: 1"), ("oracle", "source: 1")])
def test_beyond_the_bound_the_run_stops(words: list[str], stages: str, what: str) -> None:
    with pytest.raises(ValueError, match=f"{what} unreadable samples, data.bad_samples allows 0"):
        train.main([*words, f"run.stages=[{stages}]", "source.steps=6", "oracle.steps=6", "data.bad_samples=0"])
