"""Somebody's folder of twelve classes: from nothing to a trained, scored, reported, predicted and exported network, by
seven commands alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from esl_dist.entries import data, doctor, evaluate, export, predict, report, train
from tests.diagnostics.test_starting import IDS, somebodys

TINY = [
    "run.device=cpu",
    "model.layers=[1,1,1,1]",
    "model.width=8",
    "model.discriminator_width=8",
    "tracking.mlflow=false",
    "data.workers=0",
    "source.steps=3",
    "align.steps=2",
    "selftrain.steps=2",
    "extract.batch=1",
    "extract.bn_images=2",
]


def test_from_a_folder_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    somebodys(tmp_path / "yard", 30, 60)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert data.main([str(tmp_path / "yard")]) == 0
    assert "labelled: photos/*/*.jpg, labels: masks/*/*_mask.png (ids)" in capsys.readouterr().out
    assert doctor.main(["--data", "yard.yaml"]) == 0
    # The labelled part is split, so that there is something to score on.
    shares = ["data.source.shares=train:0.8,val:0.2", "data.source.split=train"]
    assert train.main(["--config", "yard.yaml", *shares, *TINY]) == 0
    run = tmp_path / "work/runs/yard"
    made = json.loads(next((run / "pseudo_labels").rglob("thresholds.json")).read_text())
    assert [entry["name"] for entry in made["classes"]] == [f"class {i}" for i in IDS]
    labels = sorted((run / "pseudo_labels").glob("*/labels/*.png"))
    assert len(labels) == 60 and {Image.open(label).size for label in labels} <= {(128, 72), (72, 72)}
    checkpoint = next((run / "selftrain/checkpoints").glob("step_*"))
    scored = [
        "data.target.dataset=folder",
        f"data.target.root={tmp_path}/yard",
        "data.target.images=photos/*/*.jpg",
        "data.target.labels=masks/*/*_mask.png",
        "data.target.shares=train:0.8,val:0.2",
        "data.target.labelled=true",
        "eval.split=val",
    ]
    words = ["--checkpoint", str(checkpoint), "--out", str(run / "metrics.json")]
    assert evaluate.main(["--config", "yard.yaml", *words, *scored, *shares, *TINY]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert list(metrics["iou"]) == [f"class {i}" for i in IDS] and metrics["images"] == 6
    assert report.main([str(run)]) == 0 and (run / "report.html").stat().st_size > 10_000
    out = tmp_path / "work/predicted"
    assert predict.main(["--checkpoint", str(run), "--images", f"{tmp_path}/yard/night", "--out", str(out)]) == 0
    sizes = {Image.open(label).size for label in out.glob("labels/*.png")}
    assert sizes == {(128, 72), (64, 64)} and len(list(out.glob("labels/*.png"))) == 60
    assert export.main(["--checkpoint", str(run), "--out", "net.pt2"]) == 0 and Path("net.pt2").stat().st_size > 10_000
    assert "12 classes" in capsys.readouterr().out


def test_the_detour_through_gta5s_layout_stops_at_once(tmp_path: Path) -> None:
    """Own ids under a published set's name would train to the end and call the sky road."""
    somebodys(tmp_path / "yard", 4, 2)
    (tmp_path / "gta5").mkdir()
    (tmp_path / "gta5/images").symlink_to(tmp_path / "yard/photos")
    for file in sorted((tmp_path / "yard/masks").rglob("*_mask.png")):
        link = tmp_path / "gta5/labels" / file.parent.name / file.name.replace("_mask", "")
        link.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(file) as label:
            label.point([IDS.index(i) if i in IDS else 255 for i in range(256)]).save(link)
    words = ["data.source.dataset=gta5", "data.source.root=gta5", "data.target.dataset=folder", "data.target.root=yard"]
    more = [
        "data.target.split=",
        "data.target.images=night/*.png",
        "data.target.labelled=false",
        "eval.split=",
        f"data.root={tmp_path}",
    ]
    run = ["run.stages=[source]", f"run.dir={tmp_path}/run", "data.streets.make=false"]
    with pytest.raises(ValueError, match="these look like train ids, or ids of your own"):
        train.main([*words, *more, *run, *TINY])
    assert not (tmp_path / "run/source").exists()
