"""Records: sealed, read through one reader, and under 1,000 flips refused, repaired or as they were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from esl_dist.runs import Damaged, Record, RunFolder, StageFolder
from esl_dist.runs.content import Ending, LabelsMade, MadeSet
from tests.runs.damage import flips

ENDING = Ending("source", 24, "step_00000024", "ab" * 32, 12.5)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    done = StageFolder(tmp_path / "source").done
    assert not done.exists() and done.find() is None
    done.write(ENDING)
    assert done.read() == ENDING and done.find() == ENDING
    made = LabelsMade(
        "advent", 2, "cd" * 32, {"esl-r2": MadeSet("esl", "ef" * 32)}, identity={"nu": 0.1, "sizes": [[1, 2], [3, 4]]}
    )
    record = RunFolder(tmp_path).labels.of("advent").made
    record.write(made)
    assert record.read() == made
    done.forget()
    done.forget()
    assert done.find() is None


def test_a_matrix_is_printed_a_row_a_line(tmp_path: Path) -> None:
    scores = StageFolder(tmp_path).scores("running")
    scores.write({"miou": 0.5, "iou": {"road": 0.5, "car": None}, "confusion": [[1, 2], [3, 4]]})
    assert "[\n    [1, 2],\n    [3, 4]\n  ]" in scores.path.read_text()
    assert scores.read()["confusion"] == [[1, 2], [3, 4]]


def test_records_of_earlier_releases_have_no_seal(tmp_path: Path) -> None:
    path = StageFolder(tmp_path).done.path
    path.write_text(
        json.dumps(
            {"stage": "source", "step": 24, "checkpoint": "step_00000024", "weights_sha256": "ab", "seconds": 1.0}
        )
    )
    assert StageFolder(tmp_path).done.read().step == 24


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not readable as JSON"),
        ('{"step": 24', "is not readable as JSON"),
        ("[]", "must hold a JSON object"),
        ("null", "must hold a JSON object"),
        ("{}", "stage: is missing"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ("[" * 100_000, "is not readable as JSON"),
        (
            json.dumps({"stage": "s", "step": 1, "checkpoint": "../../other", "weights_sha256": ""}),
            "checkpoint: '../../other' is no checkpoint's name",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_file_field_and_remedy(tmp_path: Path, text: str, said: str) -> None:
    done = StageFolder(tmp_path).done
    done.path.write_text(text)
    with pytest.raises(Damaged) as error:
        done.read()
    message = str(error.value)
    assert message.startswith(f"{done.path}: ") and said in message and "delete it" in message and "\n" not in message


def test_a_record_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Damaged, match="is not there"):
        StageFolder(tmp_path).done.read()
    StageFolder(tmp_path).done.path.mkdir()
    with pytest.raises(Damaged, match="cannot be read"):
        StageFolder(tmp_path).done.read()


def test_an_edited_value_is_refused(tmp_path: Path) -> None:
    scores = StageFolder(tmp_path).scores("running")
    scores.write({"miou": 0.5, "iou": {"road": 0.5}})
    scores.path.write_text(scores.path.read_text().replace("0.5,", "0.6,", 1))
    with pytest.raises(Damaged, match="damaged or edited"):
        scores.read()


def records(folder: Path) -> list[tuple[Record[Any], Any]]:
    """One of every kind of a run, with its content."""
    run, stage = RunFolder(folder), StageFolder(folder / "source")
    row = {"name": "road", "count": 10, "median": 0.1, "threshold": 0.2, "kept": 5, "coverage": 0.5}
    selection = {
        "images": 2,
        "pixels": 10,
        "checkpoint": None,
        "ground_truth": False,
        "agreement": None,
        "reliability": None,
    }
    curve = {"bound": [0.1], "coverage": [0.5], "class_coverage": [[0.5]], "precision": None}
    return [
        (stage.done, ENDING),
        (stage.identity, {"optim.lr": 2.5e-4, "data.target.size": [1024, 512]}),
        (stage.scores("target"), {"miou": 0.25, "iou": {"road": 0.5, "car": None}, "confusion": [[1, 2], [3, 4]]}),
        (stage.look, {"source": {"mean": [1.0, 2.0, 3.0], "std": [1.0, 1.0, 1.0]}}),
        (run.labels.set("esl").thresholds, {"rule": "esl", "classes": [row]}),
        (
            run.labels.of("advent").selection,
            {
                **selection,
                "sets": [{"rule": "esl", "coverage": 0.5, "wrong": None, "classes": [row]}],
                "curves": {"entropy": curve},
            },
        ),
        (run.labels.of("advent").made, LabelsMade("advent", 1, "cd" * 32, {"esl": MadeSet("esl", "ef" * 32)})),
    ]


@pytest.mark.parametrize("kind", range(7))
def test_a_flipped_bit_is_refused_or_without_effect(tmp_path: Path, kind: int) -> None:
    record, content = records(tmp_path)[kind]
    record.write(content)
    whole, refused = record.path.read_bytes(), 0
    right = record.read()
    for data in flips(whole):
        record.path.write_bytes(data)
        try:
            assert record.read() == right
        except Damaged as error:
            refused += 1
            assert str(error).startswith(f"{record.path}: ")
    assert refused
