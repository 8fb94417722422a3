"""Events: what a line holds, what is read back, and the names of the points."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from esl_dist.runs import events, lines
from esl_dist.runs.events import Eval, Event, Gpu, Labels, Stage, Train, Warned
from tests.runs.damage import flips

EVENTS: tuple[Event, ...] = (
    Stage("source", "start", steps=24),
    Train("source", 3, 24, 2.5e-4, 0, {"loss/source_main": 1.25, "images_per_second": 3.5, "modes/dead": None}),
    Eval("source", 24, "val", "target", 0.5, None, {"road": 0.5, "car": None}),
    Gpu("source", 3, 1, {"gpu0/utilisation": 0.5}),
    Labels("esl-it-r2", "esl", "advent", 2, 0.5, 100, "ab" * 32, "run", 0.4, 0.3),
    Warned("2 unreadable sample(s) replaced", "source", 3, ("a.png", "b.png")),
    Stage("source", "done", seconds=2.0),
)


def written(event: Event, time: float = 1000.5) -> bytes:
    fields = events.to_line(event)
    return lines.encode({"event": fields.pop("event"), "time": time, **fields})


@pytest.mark.parametrize(
    "event", EVENTS, ids=[type(event).__name__ + str(number) for number, event in enumerate(EVENTS)]
)
def test_an_event_is_read_back(event: Event) -> None:
    line = lines.parse(written(event))
    assert line.event == event and line.time == 1000.5 and not line.damage


def test_lines_are_as_they_always_were() -> None:
    fields = json.loads(written(EVENTS[1]))
    fields.pop("crc")
    assert fields == {
        "event": "train",
        "time": 1000.5,
        "stage": "source",
        "step": 3,
        "steps": 24,
        "lr": 2.5e-4,
        "bad_samples": 0,
        "loss/source_main": 1.25,
        "images_per_second": 3.5,
        "modes/dead": None,
    }
    assert "seconds" not in json.loads(written(EVENTS[0])) and json.loads(written(EVENTS[2]))["miou"] == 0.5


def test_lines_of_earlier_releases_and_of_later_ones() -> None:
    old = lines.parse(
        b'{"event": "labels", "time": 1, "set": "esl", "rule": "esl", "stage": "advent",'
        b' "coverage": 0.5, "pixels": 7}\n'
    )
    assert old.event == Labels("esl", "esl", "advent", coverage=0.5, pixels=7)
    later = lines.parse(lines.encode({"event": "weather", "time": 1, "rain": "much"}))
    assert later.event is None and not later.damage


def test_numbers_that_json_has_not_become_null_and_scalars_plain() -> None:
    fields = {
        "event": "train",
        "stage": "s",
        "step": 1,
        "loss/a": math.nan,
        "loss/b": np.float32(0.5),
        "loss/c": torch.tensor(2.0),
        "loss/d": np.float64("inf"),
        "at": Path("x"),
    }
    read = json.loads(lines.encode(fields))
    assert (read["loss/a"], read["loss/b"], read["loss/c"], read["loss/d"], read["at"]) == (None, 0.5, 2.0, None, "x")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"event": "train", "step": 3', "is cut short or damaged"),
        (b"[]\n", "is no JSON object"),
        (b'{"time": 1}\n', "event: must be text"),
        (b'{"event": "train", "step": 3}\n', "stage: is missing"),
        (b'{"event": "train", "stage": "s", "step": "3"}\n', "step: must be a whole number"),
        (b'{"event": "train", "stage": "s", "step": 3, "loss/a": "x"}\n', "figures.loss/a: must be a number"),
        (b'{"event": "stage", "stage": "s", "status": "over"}\n', "status: must be"),
        (b'{"event": "stage", "time": "now", "stage": "s", "status": "done"}\n', "time: must be a number"),
        (b"\xff\xfe\n", "is cut short or damaged"),
    ],
)
def test_a_damaged_line_says_what_is_wrong(raw: bytes, said: str) -> None:
    line = lines.parse(raw)
    assert line.event is None and said in line.damage


def test_a_flipped_bit_costs_its_line_and_changes_no_other() -> None:
    right = {event for event in map(repr, EVENTS)}
    whole = b"".join(map(written, EVENTS))
    for data in flips(whole):
        found = [lines.parse(raw) for raw in data.splitlines(keepends=True)]
        events_read = [repr(line.event) for line in found if line.event is not None]
        assert set(events_read) <= right and len(events_read) >= len(EVENTS) - 2
        assert len(events_read) == len(EVENTS) or any(line.damage for line in found)


def test_reading_begins_anywhere_and_may_wait_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first, second = written(EVENTS[0]), written(EVENTS[1])
    path.write_bytes(first + b"torn\n" + second + written(EVENTS[2])[:-9])
    assert [bool(line.damage) for line in lines.read(path)] == [False, True, False, True]
    assert [line.event for line in lines.read(path, len(first) + 5, complete=True)] == [EVENTS[1]]


def test_every_label_set_has_metrics_of_its_own() -> None:
    sets = [
        Labels(name, "esl", teacher, number, 0.5, 10)
        for name, teacher, number in (("esl", "advent", 1), ("esl-r2", "selftrain-esl", 2), ("esl-it", "advent-it", 1))
    ]
    names = [{point.name for point in events.points(event, 1.0)} for event in sets]
    assert not names[0] & names[1] and not names[0] & names[2] and "pseudo_labels/esl-r2/coverage" in names[1]
    assert len({events.series(event, 1.0) for event in sets}) == 3


def test_points_have_their_names_steps_and_times() -> None:
    found = events.points(EVENTS[2], 2.0)
    assert ("source/miou/target", 0.5, 24, 2000) in found and ("source/target iou/road", 0.5, 24, 2000) in found
    assert ("miou/target", 0.5, 24, 2000) in events.own(EVENTS[2], 2.0)
    assert events.summary(EVENTS[2], 2.0) == [("miou target/source", 0.5, 24, 2000)]
    assert not [point for point in found if "car" in point.name or "star" in point.name]
    assert ("source/loss/source_main", 1.25, 3, 1000) in events.points(EVENTS[1], 1.0)
    assert ("source/system/rank1/gpu0/utilisation", 0.5, 3, 1000) in events.points(EVENTS[3], 1.0)
    assert events.series(EVENTS[0], 1.0) is None and not events.points(EVENTS[0], 1.0)
    assert events.points(Train("a+b*c", 1, figures={"loss/ü": 1.0}), 0.0)[-1].name == "a_b_c/loss/_"
