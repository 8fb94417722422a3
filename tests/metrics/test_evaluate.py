"""Evaluation over shards: the same numbers for every number of ranks, images of any size, failures told to all."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from esl_dist.data.dataset import DataError
from esl_dist.distributed import collectives
from esl_dist.metrics.evaluate import Conditions, EvaluationResult, evaluate, write_metrics
from tests.ranks import run_ranks

NAMES = ("road", "building", "sky", "car", "person")
SIZES = [(40, 24), (64, 32), (33, 47), (64, 32), (51, 20), (40, 24), (64, 32)]  # an odd number of images, of five sizes


class Generated:
    """Labelled images that are a pure function of their number."""

    labelled = True

    def __init__(self, count: int = len(SIZES), broken: int = -1) -> None:
        self.names = [f"city/{i:03d}" for i in range(count)]
        self.broken = broken

    def __len__(self) -> int:
        return len(self.names)

    def size(self, i: int) -> tuple[int, int]:
        return SIZES[i % len(SIZES)]

    def image(self, i: int) -> np.ndarray:
        if i == self.broken:
            raise DataError(f"{self.names[i]}.png: truncated")
        width, height = self.size(i)
        return np.random.RandomState(i).randint(0, 256, (height, width, 3)).astype(np.uint8)

    def label(self, i: int) -> np.ndarray:
        width, height = self.size(i)
        label = np.random.RandomState(100 + i).randint(0, 6, (height, width)).astype(np.uint8)
        return np.where(label == 5, 255, label).astype(np.uint8)


def predict(images: torch.Tensor) -> torch.Tensor:
    """Five 'logits' per 8x8 block, different in every image."""
    blocks = functional.avg_pool2d(images.float(), 8)
    red, green, blue = blocks.unbind(1)
    return torch.stack([red, green, blue, (red + green) / 2 + 3, 128 + (blue - red) / 3], 1)


def _evaluate(dataset: Generated, at: str = "native", batch: int = 2, **more: int) -> EvaluationResult:
    return evaluate(predict, dataset, Conditions(NAMES, (48, 32), batch, at, **more))  # type: ignore[arg-type]


def _plain(dataset: Generated, at: str = "native") -> np.ndarray:
    """The same by the longest way round: full upsampled logits, one pixel pair at a time into the matrix."""
    from esl_dist.data.transforms import resize_image, resize_label

    confusion = np.zeros((5, 5), dtype=np.int64)
    for i in range(len(dataset)):
        label = dataset.label(i) if at == "native" else resize_label(dataset.label(i), (48, 32)).numpy()
        logits = predict(resize_image(dataset.image(i), (48, 32))[None])
        up = functional.interpolate(logits, label.shape, mode="bilinear", align_corners=True)[0].argmax(0).numpy()
        np.add.at(confusion, (label[label < 5], up[label < 5]), 1)
    return confusion


@pytest.mark.parametrize("at", ["native", "crop"])
def test_equals_the_plain_way(at: str) -> None:
    result = _evaluate(Generated(), at)
    expected = _plain(Generated(), at)
    assert (
        np.abs(result.confusion - expected).sum() <= 4
    )  # float32 ties between upsampling orders, of some 10,000 pixels
    assert result.confusion.sum() == expected.sum() and result.confusion.dtype == np.int64
    assert result.images == 7


@pytest.mark.parametrize("world", [2, 3, 9])
def test_shards_of_an_odd_count_add_up(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = _evaluate(Generated()).confusion
    monkeypatch.setattr(collectives, "world", lambda: world)
    monkeypatch.setattr(collectives, "agree", lambda action: action())
    monkeypatch.setattr(collectives, "gather_json", lambda value: [value])
    # A pixel of somebody else's, since two of 9 ranks have nothing to do and nothing at all is an error.
    monkeypatch.setattr(collectives, "all_reduce_", lambda tensor, op="sum": tensor.add_(tensor.dim() // 2))
    summed = np.zeros_like(alone)
    for rank in range(world):
        monkeypatch.setattr(collectives, "rank", lambda rank=rank: rank)
        summed += _evaluate(Generated()).confusion - 1
    assert np.array_equal(summed, alone)


def test_the_worst_and_the_best_images_are_named() -> None:
    found = _evaluate(Generated())
    assert sum(image.right for image in found.by_image) == np.trace(found.confusion)
    assert sum(image.judged for image in found.by_image) == found.confusion.sum()
    wrong = [image.wrong for image in found.by_image]
    assert len(wrong) == 7 and wrong == sorted(wrong, reverse=True)
    said = found.to_json()
    assert said["worst"] == [[image.name, image.wrong] for image in found.by_image[:3]]
    assert said["best"] == [[image.name, image.wrong] for image in found.by_image[:-4:-1]]
    assert "worst" in _evaluate(Generated(2)).to_json() and not _evaluate(Generated(1)).to_json()["worst"]


def score_on_rank(broken: int) -> dict[str, object]:
    """What a rank of the test below returns."""
    try:
        result = _evaluate(Generated(broken=broken))
    except ValueError as error:
        return {"error": str(error)}
    return result.to_json()


def test_two_ranks_give_what_one_gives() -> None:
    alone = _evaluate(Generated()).to_json()
    assert run_ranks(2, "tests.metrics.test_evaluate:score_on_rank", -1) == [alone, alone]


def test_an_unreadable_image_stops_every_rank_with_its_name() -> None:
    for found in run_ranks(2, "tests.metrics.test_evaluate:score_on_rank", 3):
        assert "city/003" in found["error"] and "data.bad_samples allows 0" in found["error"]


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_unreadable_images_within_the_bound_are_left_out_and_named(batch: int) -> None:
    found = _evaluate(Generated(broken=3), batch=batch, bad_samples=1)
    whole, alone = _evaluate(Generated()), Generated()
    alone.names, alone.size = alone.names[:1], lambda i: SIZES[3]  # type: ignore[method-assign]
    label, image = alone.label, alone.image
    alone.label, alone.image = lambda i: label(3), lambda i: image(3)  # type: ignore[method-assign]
    assert np.array_equal(found.confusion + _evaluate(alone).confusion, whole.confusion)
    assert found.images == 6 and found.to_json()["unreadable"] == {"city/003": "city/003.png: truncated"}


def test_batch_and_padding_change_nothing() -> None:
    assert np.array_equal(_evaluate(Generated(), batch=1).confusion, _evaluate(Generated(), batch=4).confusion)


def test_only_the_first_images_on_request() -> None:
    assert np.array_equal(_evaluate(Generated(), images=3).confusion, _evaluate(Generated(3)).confusion)


def test_labels_are_needed() -> None:
    dataset = Generated()
    dataset.labelled = False
    with pytest.raises(ValueError, match=r"eval\.split"):
        _evaluate(dataset)


def test_metrics_file_is_whole_and_plain_json(tmp_path: Path) -> None:
    dataset = Generated(2)
    dataset.label = lambda i: np.full(SIZES[i][::-1], 255 if i else 0, dtype=np.uint8)  # type: ignore[method-assign]
    result = _evaluate(dataset)
    path = tmp_path / "stage" / "metrics.json"
    write_metrics(result, path, {"bn_statistics": "target", "split": "test"})
    read = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read["bn_statistics"] == "target" and read["split"] == "test" and read["images"] == 2
    assert read["confusion"] == result.confusion.tolist()
    assert read["classes"] == "5-class network" and list(read["iou"]) == list(NAMES)
    assert [p.name for p in path.parent.iterdir()] == ["metrics.json"]


def test_nothing_labelled_is_an_error_not_nan() -> None:
    dataset = Generated(1)
    dataset.label = lambda i: np.full(SIZES[i][::-1], 255, dtype=np.uint8)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match=r"eval\.split: not one labelled pixel in 1 images"):
        _evaluate(dataset)


def test_an_absent_number_is_null(tmp_path: Path) -> None:
    result = EvaluationResult(np.zeros((5, 5), np.int64), NAMES, 1, "native")
    assert math.isnan(result.miou)
    write_metrics(result, tmp_path / "m.json")
    read = json.loads((tmp_path / "m.json").read_text())
    assert read["miou"] is None and set(read["iou"].values()) == {None} and read["pixel_accuracy"] is None


def test_groups_of_classes_are_scored_beside_them() -> None:
    confusion = np.array([[5, 1, 0], [2, 3, 1], [0, 0, 4]])
    found = EvaluationResult(confusion, ("a", "b", "c"), 1, "native", groups=(("ab", (0, 1)), ("c", (2,)))).to_json()
    assert found["merged"]["groups"]["iou"] == {"ab": 11 / 12, "c": 4 / 5}
    assert found["merged"]["groups"]["miou"] == pytest.approx((11 / 12 + 4 / 5) / 2)
    part = EvaluationResult(confusion, ("a", "b", "c"), 1, "native", groups=(("ab", (0, 1)),)).to_json()
    assert part["merged"]["groups"]["iou"] == {"ab": 11 / 12}  # c predicted for b is wrong, c labelled is ignored
