"""Confidences beside one another: the counted curves are those of a plain sort."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from esl_dist.pseudo_labels.scores import spec
from esl_dist.pseudo_labels.scores.kinds import KINDS
from esl_dist.pseudo_labels.scores.scorer import scoring
from esl_dist.pseudo_labels.sets import comparison
from esl_dist.pseudo_labels.sets.images import Readout
from tests.pseudo_labels.common import small_logits, table

SIZE = (24, 40)
LOGITS = [small_logits(i) for i in range(8)]


def truth(index: int, size: tuple[int, int]) -> np.ndarray:
    """Wrong the more often, the less sure the network is; unknown in a corner."""
    label, _, best = spec.score(LOGITS[index], size)
    draw = np.random.RandomState(index)
    label = np.where(draw.random_sample(size) < best, label, (label + 1) % 5).astype(np.uint8)
    label[:5, :5] = 255
    return label


def compared() -> list[dict]:
    forward, images = table(LOGITS)
    readout = Readout(scoring("exact"), lambda index: SIZE, KINDS, "exact", 5)
    return comparison.Comparison(images, truth, readout)(forward, range(8))


def test_the_curves_are_those_of_a_sort(tmp_path: Path) -> None:
    found = {entry["title"]: entry for entry in compared()}
    assert len(found) == 12 and {entry["forwards"] for entry in found.values()} == {1, 2, 6}
    label = np.stack([spec.score(z, SIZE)[0] for z in LOGITS])
    known = np.stack([truth(i, SIZE) for i in range(8)])
    judged = known != 255
    wrong = (label != known)[judged]
    entropy = np.stack([spec.score(z, SIZE)[1] for z in LOGITS])[judged]
    margin = np.stack([spec.margins(z, SIZE)[1] for z in LOGITS])[judged]
    for title, order in (("entropy", np.argsort(entropy)), ("margin of logits", np.argsort(-margin))):
        entry = found[title]
        for share, value in zip(entry["coverage"], entry["wrong"], strict=True):
            kept = order[: round(share * len(order))]
            assert abs(wrong[kept].mean() - value) < 0.01, (title, share)
        assert entry["wrong"][-1] == wrong.mean()
        half = [np.flatnonzero(label[judged][order] == c) for c in range(5)]
        kept = np.concatenate([order[places[: len(places) // 2]] for places in half])
        assert abs(wrong[kept].mean() - entry["wrong_half_of_every_class"]) < 0.01
    assert found["entropy"]["wrong"][9] < found["entropy"]["wrong"][-1], "the surest half is righter than all"
    text = comparison.table(list(found.values()), "8 images")
    assert len(text.splitlines()) == 14 and "maximum probability, mean over mirror x1" in text


def test_no_ground_truth_gives_no_figure() -> None:
    forward, images = table(LOGITS)
    readout = Readout(scoring("exact"), lambda index: SIZE, KINDS, "exact", 5)
    nothing = comparison.Comparison(images, lambda index, size: np.full(size, 255, np.uint8), readout)(forward, [0])
    assert all(entry["wrong"] == [None] * 20 and entry["wrong_half_of_every_class"] is None for entry in nothing)
    assert "–" in comparison.table(nothing, "nothing")


def test_the_page_draws_them(tmp_path: Path) -> None:
    from esl_dist.config.schema import PseudoLabelConfig
    from esl_dist.reporting.selection_page import write_selection_page
    from esl_dist.runs.folders import TeacherFolder
    from tests.pseudo_labels.common import run

    run(LOGITS, tmp_path, PseudoLabelConfig(rule="margin"))
    statistics = {
        "images": 4,
        "agreement": 0.93,
        "source_miou": {"running": 0.5, "target": 0.4, "source": 0.45},
        "running": {"entropy": 0.2, "distance": 0.1},
        "target": {"entropy": 0.3, "distance": 0.05},
        "safer": "running",
        "why": "re-estimation costs 5.0 points",
    }
    TeacherFolder(tmp_path).evidence.write(
        {"confidences": {"about": "8 images", "figures": compared()}, "statistics": statistics}
    )
    text = write_selection_page(tmp_path).read_text()
    assert "Which confidence selects best" in text and "margin of logits, mean over mirror x1" in text
    assert "Margin of logits, nats" in text and "93.0 %" in text and "re-estimation costs 5.0 points" in text
    assert "<script" not in text


def test_ranks_and_devices_share_the_truth_of_counts() -> None:
    """Counts of two halves add up to those of the whole."""
    whole, first, second = (comparison.Counts("probability", 5) for _ in range(3))
    for i, z in enumerate(LOGITS):
        label, _, best = spec.score(z, SIZE)
        for counts in (whole, (first, second)[i % 2]):
            counts.add(label, best, truth(i, SIZE))
    assert (whole.pixels == first.pixels + second.pixels).all() and (whole.right == first.right + second.right).all()
    assert torch.is_tensor(torch.from_numpy(whole.pixels)) and whole.right.sum() <= whole.pixels.sum()
