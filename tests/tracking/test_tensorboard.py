"""TensorBoard's event files hold the points of metrics.jsonl, each once, whatever resumes did; and the predictions."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.config.schema import TrackingConfig
from esl_dist.runs import RunFolder
from esl_dist.runs.events import Eval, Stage, Train
from esl_dist.tracking import Tracker

tensorboardX = pytest.importorskip("tensorboardX")


def tracker(folder: Path) -> Tracker:
    return Tracker(folder, TrackingConfig(mlflow=False, tensorboard=True), "run", {}, is_main=True)


def written(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], list[str]]:
    """Scalars by name, and the names of pictures."""
    from tensorboardX.event_file_writer import EventFileWriter  # noqa: F401 - the package's own format
    from tensorboardX.proto import event_pb2

    scalars: dict[str, list[tuple[int, float]]] = {}
    pictures: list[str] = []
    for path in sorted(RunFolder(folder).tensorboard.glob("events*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            event = event_pb2.Event.FromString(data[at + 12 : at + 12 + length])
            at += 12 + length + 4
            for value in event.summary.value:
                if value.HasField("image"):
                    pictures.append(value.tag)
                else:
                    scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
    return scalars, pictures


def test_points_and_pictures(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    made.record(Stage("source", "start", steps=2))
    for step in (1, 2):
        made.record(Train("source", step, 2, 0.5, 0, {"loss/seg": 1.0 / step}))
    strip = RunFolder(tmp_path).stage("source").strip(2, "a/frame.0")
    strip.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 20, 3), np.uint8)).save(strip)
    for statistics in ("running", "target"):
        made.record(Eval("source", 2, "val", statistics, 0.25, iou={"road": 0.5}))
    made.close("FINISHED")
    scalars, pictures = written(tmp_path)
    assert scalars["source/loss/seg"] == [(1, 1.0), (2, 0.5)] and scalars["source/miou/running"] == [(2, 0.25)]
    assert pictures == ["source/strip/a/frame.0"]


def test_a_resume_leaves_no_point_twice(tmp_path: Path) -> None:
    made = tracker(tmp_path)
    for step in (1, 2, 3):
        made.record(Train("source", step, figures={"loss/seg": float(step)}))
    made.close("KILLED")
    again = tracker(tmp_path)
    again.truncate("source", 1)
    for step in (2, 3, 4):
        again.record(Train("source", step, figures={"loss/seg": float(step)}))
    again.close("FINISHED")
    assert written(tmp_path)[0]["source/loss/seg"] == [(step, float(step)) for step in (1, 2, 3, 4)]


def test_a_writer_that_fails_is_said_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("esl_dist"), "propagate", True)
    monkeypatch.setattr(tensorboardX, "SummaryWriter", lambda **options: (_ for _ in ()).throw(OSError("no space")))
    made = tracker(tmp_path)
    for step in (1, 2):
        made.record(Train("source", step, figures={"loss/seg": 1.0}))
    made.close("FINISHED")
    assert caplog.text.count("TensorBoard gets nothing more (no space)") == 1
    assert len(RunFolder(tmp_path).metrics.read_bytes().splitlines()) == 2
