"""What the published extraction computes, to the pixel: ``scores: library`` with ``rank: reference``, both confidences.

Torch's own softmax and log differ in the last bit between machines, so a pixel within 1e-5 of its threshold may fall on
the other side there; on the machine that the numbers were measured on none does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.pseudo_labels.sets.label_sets import LabelSet
from tests.pseudo_labels.common import fake_logits, run
from tests.ranks import ROOT

GOLDEN = json.loads((ROOT / "tests/golden/extract.json").read_text())
SIZE = (256, 128)
PUBLISHED = PseudoLabelConfig(scores="library", rank="reference")


def network_logits() -> list[np.ndarray]:
    """The golden network: DeepLab-v2 of layers (1, 1, 2, 1) with deterministic weights, its main head 15
    times larger.
    """
    from esl_dist.models import DeepLabV2
    from tests.deterministic import fill, image_chw

    network = fill(DeepLabV2(19, layers=(1, 1, 2, 1)))
    with torch.inference_mode():
        for name, parameter in network.named_parameters():
            if name.startswith("layer6.") and name.endswith("weight"):
                parameter.mul_(15)
        network.eval()
        return [network(torch.from_numpy(image_chw(500 + i, 128, 256))[None]).main[0].numpy() for i in range(12)]


def agrees(made: LabelSet, expected: dict[str, Any], same_machine: bool = True) -> None:
    classes = made.thresholds["classes"]
    assert sum(entry["count"] for entry in classes) == sum(expected["total"]) == 12 * 128 * 256
    wrong = sum(abs(entry["kept"] - kept) for entry, kept in zip(classes, expected["kept"], strict=True))
    wrong += sum(abs(entry["count"] - total) for entry, total in zip(classes, expected["total"], strict=True))
    files = sorted((made.out / "labels").rglob("*.png"))
    found = [hashlib.sha256(np.asarray(Image.open(path)).tobytes()).hexdigest()[:16] for path in files]
    if same_machine:
        assert wrong == 0 and found == expected["labels"]
    else:
        assert wrong <= 2 * expected["near"]


@pytest.mark.parametrize("case", ["fake_logits", "net_r1121_g15"])
def test_entropy_and_probability_labels_are_the_published_ones(case: str, tmp_path: Path) -> None:
    logits = [fake_logits(i) for i in range(12)] if case == "fake_logits" else network_logits()
    entropy = GOLDEN["entropy"][case]
    settings = [dataclasses.replace(PUBLISHED, nu=expected["nu"]) for expected in entropy]
    settings.append(dataclasses.replace(PUBLISHED, rule="ssl", mu=GOLDEN["probability"][case]["mu"]))
    made = run(logits, tmp_path, *settings, size=SIZE)
    for label_set, expected in zip(made, [*entropy, GOLDEN["probability"][case]], strict=True):
        agrees(label_set, expected)
        for entry, median in zip(label_set.thresholds["classes"], expected["medians"], strict=True):
            if entry["count"]:
                assert entry["median"] == pytest.approx(median, abs=3e-6)


def test_windows_are_the_published_chunks(tmp_path: Path) -> None:
    expected = GOLDEN["entropy"]["fake_logits_chunk6"][0]
    setting = dataclasses.replace(PUBLISHED, nu=expected["nu"], window=expected["window"])
    (made,) = run([fake_logits(i) for i in range(12)], tmp_path, setting, size=SIZE)
    agrees(made, expected)
    assert len(made.thresholds["windows"]) == 2


def test_exact_scores_move_next_to_nothing(tmp_path: Path) -> None:
    """Against the published arithmetic: thresholds within 3e-6, and no more pixels than lie that close to one."""
    expected = GOLDEN["entropy"]["fake_logits"][1]
    (made,) = run(
        [fake_logits(i) for i in range(12)],
        tmp_path,
        dataclasses.replace(PUBLISHED, nu=expected["nu"], scores="exact"),
        size=SIZE,
    )
    agrees(made, expected, same_machine=False)
    for entry, median in zip(made.thresholds["classes"], expected["medians"], strict=True):
        if entry["count"]:
            assert entry["median"] == pytest.approx(median, abs=3e-6)
