"""Confusion matrices and scores: golden numbers to the last digit, and numbers small enough to check by hand."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from esl_dist.labels import protocol
from esl_dist.metrics import confusion
from esl_dist.metrics.confusion import confusion_matrix
from esl_dist.metrics.iou import fold, iou, mean_iou, merged_scores, subset_scores
from tests.deterministic import label_map

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "eval.json").read_text())
CITYSCAPES = protocol("19").classes
H, W = 256, 512


def _prediction(label: np.ndarray, seed: int) -> np.ndarray:
    stream = np.random.RandomState(seed)
    keep = stream.random_sample(label.shape) < 0.7
    drawn = stream.randint(0, 19, label.shape)
    return np.where(keep & (label < 19), label, drawn)


def _cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    a, b = label_map(700, H, W), label_map(701, H, W)
    prediction_a, prediction_b = _prediction(a, 7_000_003), _prediction(b, 7_000_004)
    b = np.where((b == 16) | (b == 17), 0, b)
    prediction_b = np.where(prediction_b == 16, 1, prediction_b)
    prediction_b = np.where(prediction_b == 18, 2, prediction_b)
    e = a.astype(np.int64)
    e[:20], e[20:30] = -1, 33
    return {
        "A_random": (a, prediction_a),
        "B_absent": (b, prediction_b),
        "D_all_ignored": (np.full_like(a, 255), prediction_b),
        "E_negative_and_33": (e, prediction_a),
    }


def _confusion(label: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    return confusion_matrix(torch.from_numpy(label), torch.from_numpy(prediction), 19).numpy()


def _same(found: float, expected: float | str) -> bool:
    return math.isnan(found) if expected == "nan" else found == expected


@pytest.mark.parametrize("name", ["A_random", "B_absent", "D_all_ignored", "E_negative_and_33"])
def test_golden_matrix_and_scores_to_the_last_digit(name: str) -> None:
    expected = GOLDEN[name]
    found = _confusion(*_cases()[name])
    assert found.dtype == np.int64 and found.sum() == expected["hist_sum"]
    assert hashlib.sha256(found.tobytes()).hexdigest() == expected["hist_sha256_int64"]
    values = iou(found)
    assert all(_same(v, e) for v, e in zip(values, expected["iou"], strict=True))
    assert _same(mean_iou(values), expected["nanmean"])
    subsets = subset_scores(values, CITYSCAPES)
    assert _same(subsets["16-from-19"][0], expected["nanmean16_synthia"])
    assert _same(subsets["13-from-19"][0], expected["nanmean13_synthia"])


def test_golden_sum_of_two_images_is_scored_as_one_set() -> None:
    cases = _cases()
    both = _confusion(*cases["A_random"]) + _confusion(*cases["B_absent"])
    assert hashlib.sha256(both.tobytes()).hexdigest() == GOLDEN["C_A_plus_B"]["hist_sha256_int64"]
    assert iou(both).tolist() == GOLDEN["C_A_plus_B"]["iou"]
    assert mean_iou(iou(both)) == GOLDEN["C_A_plus_B"]["nanmean"]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64])
def test_confusion_by_hand(dtype: torch.dtype) -> None:
    label = torch.tensor([[0, 0, 1], [2, 255 if dtype is torch.uint8 else -1, 1]], dtype=dtype)
    prediction = torch.tensor([[0, 1, 1], [2, 0, 255]], dtype=torch.uint8)
    # 255 as a prediction means "none": it joins neither the row nor the column.
    assert confusion_matrix(label, prediction, 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]


def test_counts_with_and_without_numba_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba", reason="numba is not installed")
    draw = np.random.RandomState(0)
    label, prediction = (torch.from_numpy(draw.randint(0, 25, (37, 51)).astype(np.uint8)) for _ in range(2))
    label[0], prediction[:, 0] = 255, 255
    counted = confusion_matrix(label, prediction, 19), confusion_matrix(label[:, ::2], prediction[:, ::2], 255)
    monkeypatch.setattr(confusion, "compiled", lambda: None)
    plain = confusion_matrix(label, prediction, 19), confusion_matrix(label[:, ::2], prediction[:, ::2], 255)
    assert counted[0].sum() > 0 and all(torch.equal(a, b) for a, b in zip(counted, plain, strict=True))


def test_many_classes_do_not_overflow_the_narrow_type() -> None:
    label = torch.tensor([199, 198], dtype=torch.uint8)
    assert confusion_matrix(label, label, 200)[199, 199] == 1


def test_iou_of_absent_and_only_predicted_classes() -> None:
    confusion = np.array([[3, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    confusion[0, 3] = 2  # class 3 is predicted, never labelled; class 2 neither
    values = iou(confusion)
    assert values[0] == 3 / 6 and values[1] == 2 / 3 and math.isnan(values[2]) and values[3] == 0
    assert mean_iou(values) == (3 / 6 + 2 / 3 + 0) / 3


def test_the_star_of_a_16_class_network_leaves_out_three_thin_classes() -> None:
    names = [n for n in CITYSCAPES if n not in ("terrain", "truck", "train")]
    values = np.arange(16) / 16
    subsets = subset_scores(values, names)
    kept = [
        0,
        1,
        2,
        6,
        7,
        8,
        9,
        10,
        11,
        12,
        13,
        14,
        15,
    ]  # road sidewalk building | light sign vegetation sky person rider car bus motorcycle bicycle
    assert list(subsets) == ["13-of-16"]
    assert subsets["13-of-16"][0] == pytest.approx(sum(kept) / 13 / 16, abs=1e-15)
    assert "wall" not in subsets["13-of-16"][1] and len(subsets["13-of-16"][1]) == 13


def test_other_classes_of_the_same_number_have_no_published_subset() -> None:
    assert subset_scores(np.zeros(16), [f"class {i}" for i in range(16)]) == {}
    assert subset_scores(np.zeros(7), list("abcdefg")) == {}


def test_fold_scores_a_fine_network_under_a_coarse_protocol() -> None:
    # Classes 0 and 1 merge to "flat" (0), 2 is "object" (1), 3 is outside the protocol.
    confusion = np.array([[5, 2, 1, 0], [1, 4, 0, 2], [0, 3, 6, 1], [9, 9, 9, 9]])
    folded = fold(confusion, {0: 0, 1: 0, 2: 1}, 2)
    assert folded.tolist() == [[12, 1, 2], [3, 6, 1], [0, 0, 0]]
    values = iou(folded)[:2]
    assert values.tolist() == [12 / (12 + 3 + 3), 6 / (6 + 1 + 4)]


def test_one_prediction_set_under_seven_and_ten_classes() -> None:
    """Twelve labelled pixels of a 19-class network, scored by hand under the merging protocols."""
    pixels = [  # label, prediction, times
        ("road", "road", 4),
        ("road", "sidewalk", 2),  # flat either way; two classes of the ten
        ("terrain", "vegetation", 1),  # flat taken for nature; not among the ten
        ("fence", "wall", 2),  # the same merged class under both
        ("rider", "person", 1),  # human; riders are not among the ten
        ("person", "rider", 1),  # human; wrong among the ten, which have no rider to credit
        ("car", "bus", 1),  # vehicle; wrong among the ten
    ]
    confusion = np.zeros((19, 19), dtype=np.int64)
    for label, prediction, times in pixels:
        confusion[CITYSCAPES.index(label), CITYSCAPES.index(prediction)] = times
    scores = merged_scores(confusion, CITYSCAPES)
    seven, ten = scores["7-from-19"], scores["10-from-19"]
    assert {k: v for k, v in seven.items() if not math.isnan(v)} == {
        "flat": 6 / 7,
        "construction": 1.0,
        "nature": 0.0,
        "human": 1.0,
        "vehicle": 1.0,
    }
    assert {k: v for k, v in ten.items() if not math.isnan(v)} == {
        "road": 4 / 6,
        "sidewalk": 0.0,
        "fence or wall": 1.0,
        "person": 0.0,
        "car": 0.0,
    }
    assert merged_scores(confusion[:16, :16], protocol("16").classes) == {}
