"""Confidences beside the labels: what they are, that labels do not change, the same bits however they are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from esl_dist.config.load import load_config
from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.methods import plan
from esl_dist.pseudo_labels.confidence import confidence_map
from esl_dist.pseudo_labels.sets.label_weights import confidence_weights
from tests.pseudo_labels.common import SIZE, hashes, numbers, run, small_logits
from tests.ranks import run_ranks

LOGITS = [small_logits(i) for i in range(7)]
SETTINGS = (PseudoLabelConfig(), PseudoLabelConfig(rule="ssl"))


def test_a_weight_is_the_confidence_in_255ths_and_never_nothing() -> None:
    score = np.array([[0.0, 0.1, 0.5, 0.999, 1.004, 0.3]], np.float32)
    label = np.array([[0, 1, 2, 3, 4, 255]], np.uint8)
    assert confidence_weights(label, score, "entropy").tolist() == [
        [255, 230, 128, 1, 1, 0]
    ]  # 229.5 and 127.5: to even
    assert confidence_weights(label, np.minimum(score, 1), "probability").tolist() == [[1, 26, 128, 255, 255, 0]]


def extract_here(out: str, spool: str = "scores") -> bool:
    run(LOGITS, Path(out), *SETTINGS, spool=spool, batch=2, weights=True)
    return True


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weighted")
    extract_here(str(folder))
    return folder


def test_weights_lie_beside_labels_that_are_the_same_as_without(weighted: Path, tmp_path: Path) -> None:
    plain = run(LOGITS, tmp_path, *SETTINGS, batch=2)
    for made, kind in zip(plain, ("entropy", "probability"), strict=True):
        folder = weighted / made.out.name
        assert hashes(folder / "labels") == hashes(made.out / "labels") and not (made.out / "weights").exists()
        assert "weights" not in made.thresholds
        seen: set[int] = set()
        for i, logits in enumerate(LOGITS):
            label = np.asarray(Image.open(folder / f"labels/town/{i:03d}.png"))
            weights = np.asarray(Image.open(folder / f"weights/town/{i:03d}.png"))
            _, score = confidence_map(torch.from_numpy(logits)[None], (SIZE[1], SIZE[0]), kind)
            expected = confidence_weights(label, np.asarray(score).reshape(label.shape), kind)
            assert np.array_equal(weights, expected) and ((weights == 0) == (label == 255)).all()
            seen |= set(weights.flat)
        assert len(seen) > 50


@pytest.mark.parametrize("spool", ["logits", "none"])
def test_every_spool_gives_the_same_weights(weighted: Path, tmp_path: Path, spool: str) -> None:
    extract_here(str(tmp_path), spool)
    assert hashes(tmp_path) == hashes(weighted) and len(hashes(tmp_path)) == 4 * len(LOGITS)


def test_two_ranks_give_the_same_weights(weighted: Path, tmp_path: Path) -> None:
    run_ranks(2, f"{__name__}:extract_here", str(tmp_path))
    assert hashes(tmp_path) == hashes(weighted)


def test_a_damaged_weight_is_made_again(tmp_path: Path) -> None:
    lines: list[str] = []
    (first,) = run(LOGITS, tmp_path, PseudoLabelConfig(), weights=True)
    before = hashes(first.out)
    (tmp_path / "0/weights/town/003.png").write_bytes(b"")
    (again,) = run(LOGITS, tmp_path, PseudoLabelConfig(), weights=True, lines=lines)
    assert hashes(again.out) == before and numbers(again) == numbers(first) and "labels 0: already there" not in lines
    run(LOGITS, tmp_path, PseudoLabelConfig(), weights=True, lines=lines)
    assert "labels 0: already there" in lines
    # A set without weights is no set with them.
    (plain,) = run(LOGITS, tmp_path / "plain", PseudoLabelConfig())
    (weighted,) = run(LOGITS, tmp_path / "plain", PseudoLabelConfig(), weights=True)
    assert plain.thresholds["labels"] == weighted.thresholds["labels"] and hashes(weighted.out) == before


@pytest.mark.parametrize(
    "words",
    [
        ["pseudo_labels.rule=cbst", "run.stages=[source,selftrain]"],
        ["run.stages=[source,'selftrain:esl','selftrain:cbst']"],
        ["pseudo_labels.rule=cbst", "run.stages=[source,translate,'selftrain+it']"],
        ["run.stages=[source,translate,'selftrain:cbst+it']"],
    ],
)
def test_cbst_has_no_confidence(words: list[str]) -> None:
    config = load_config(None, [*words, "selftrain.label_weight=confidence"])
    with pytest.raises(ValueError, match=r"selftrain\.label_weight: confidence is not defined for cbst"):
        plan(config)
