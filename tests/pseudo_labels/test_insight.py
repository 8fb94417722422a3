"""What is read from the histograms equals what is counted pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.pseudo_labels.scores import spec
from esl_dist.pseudo_labels.sets import evidence as insight
from tests.pseudo_labels.common import SIZE, run, small_logits

LOGITS = [small_logits(i) for i in range(8)]
HEIGHT_WIDTH = (SIZE[1], SIZE[0])


def truth(index: int, size: tuple[int, int]) -> np.ndarray:
    """Mostly what the network says, wrong here and there, unknown in a corner."""
    label = spec.score(LOGITS[index], size)[0].copy()
    draw = np.random.RandomState(index)
    label[draw.random_sample(size) < 0.2] = 1
    label[:5, :5] = 255
    return label


@pytest.fixture(scope="module")
def extraction(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    out = tmp_path_factory.mktemp("insight")
    lines: list[str] = []
    run(LOGITS, out, PseudoLabelConfig(), PseudoLabelConfig(rule="ssl"), truth=truth, lines=lines)
    assert any("wrong %" in line for line in lines), "the table is printed"
    return out, json.loads((out / "selection.json").read_text())


def maps() -> tuple[np.ndarray, ...]:
    scored = [spec.score(z, HEIGHT_WIDTH) for z in LOGITS]
    known = np.stack([truth(i, HEIGHT_WIDTH) for i in range(8)])
    return (*(np.stack(part) for part in zip(*scored, strict=True)), known)


def test_wrong_labels_per_set_and_class_are_those_of_the_files(extraction: tuple[Path, dict]) -> None:
    out, found = extraction
    known = maps()[3]
    assert found["ground_truth"] is True
    for row, entry in enumerate(found["sets"]):
        label = np.stack(
            [np.asarray(Image.open(out / f"{row}" / "labels" / "town" / f"{i:03d}.png")) for i in range(8)]
        )
        judged = (label != 255) & (known != 255)
        assert entry["wrong"] == (judged & (label != known)).sum() / judged.sum()
        for c, values in enumerate(entry["classes"]):
            of_class = judged & (label == c)
            assert values["wrong"] == ((of_class & (known != c)).sum() / of_class.sum() if of_class.any() else None)
    esl, ssl = (
        np.stack([np.asarray(Image.open(out / f"{row}" / "labels" / "town" / f"{i:03d}.png")) for i in range(8)]) != 255
        for row in (0, 1)
    )
    assert found["agreement"] == {
        "both": (esl & ssl).sum(),
        "esl only": (esl & ~ssl).sum(),
        "ssl only": (~esl & ssl).sum(),
        "neither": (~esl & ~ssl).sum(),
    }


@pytest.mark.parametrize("kind", ["entropy", "probability"])
def test_curves_equal_thresholding_every_pixel_again(kind: str, extraction: tuple[Path, dict]) -> None:
    label, entropy, probability, known = maps()
    score = entropy if kind == "entropy" else probability
    curve = extraction[1]["curves"][kind]
    digit = score.view(np.uint32) >> 16
    median = []
    for c in range(5):
        n = (label == c).sum()
        half = -(-n // 2)
        median.append(
            np.sort(digit[label == c])[half - 1 if kind == "entropy" else n - half]
            if n
            else (0 if kind == "entropy" else 1 << 15)
        )
    for bound, coverage, precision in zip(curve["bound"], curve["coverage"], curve["precision"], strict=True):
        at = np.float32(bound).view(np.uint32) >> 16
        kept = digit <= np.maximum(at, median)[label] if kind == "entropy" else digit >= np.minimum(at, median)[label]
        assert coverage == kept.mean()
        assert precision == (kept & (label == known)).sum() / (kept & (known != 255)).sum()
    assert (
        np.isclose(curve["bound"][10], 0.1, rtol=0.01)
        if kind == "entropy"
        else np.isclose(curve["bound"][50], 0.9, rtol=0.01)
    )
    assert curve["coverage"] == sorted(curve["coverage"], reverse=kind == "probability"), "a looser bound keeps more"


def test_reliability_counts_the_right_pixels_of_each_interval(extraction: tuple[Path, dict]) -> None:
    label, entropy, _, known = maps()
    found = extraction[1]["reliability"]["entropy"]
    judged = known != 255
    assert sum(found["pixels"]) == judged.sum()
    total = sum(n * r for n, r in zip(found["pixels"], found["right"], strict=True) if n)
    assert round(total) == (judged & (label == known)).sum()
    inside = judged & (entropy >= 0.5) & (entropy < 0.75)  # these edges are edges of bins
    assert sum(found["pixels"][10:15]) == inside.sum()
    summed = sum(n * mean for n, mean in zip(found["pixels"], found["mean"], strict=True) if n)
    assert np.isclose(summed, entropy[judged].sum(dtype=np.float64), rtol=0.003)


def test_without_ground_truth_there_is_coverage_and_nothing_else(tmp_path: Path) -> None:
    run(LOGITS, tmp_path, PseudoLabelConfig(), spool="none")
    found = json.loads((tmp_path / "selection.json").read_text())
    assert found["ground_truth"] is False and found["reliability"] is None and found["agreement"] is None
    assert found["curves"]["entropy"]["precision"] is None and len(found["curves"]["entropy"]["coverage"]) == 61
    assert found["sets"][0]["wrong"] is None
    assert "esl: " in insight.table(found)


def test_the_page_holds_the_figures_and_stands_alone(extraction: tuple[Path, dict]) -> None:
    from esl_dist.reporting.selection_page import write_selection_page

    text = write_selection_page(extraction[0]).read_text()
    assert "ν*" in text and "μ*" in text and text.count("<svg") == 6 and "wrong labels" in text
    assert f"{100 * extraction[1]['sets'][0]['wrong']:.2f}" in text
    assert "http://" not in text and "https://" not in text and "<script" not in text


def test_a_page_without_an_extraction_is_refused(tmp_path: Path) -> None:
    from esl_dist.reporting.selection_page import write_selection_page

    with pytest.raises(ValueError, match=r"selection\.json: not there; extract pseudo-labels into"):
        write_selection_page(tmp_path)
    (tmp_path / "selection.json").write_text("{")
    with pytest.raises(ValueError, match="not readable as JSON"):
        write_selection_page(tmp_path)


@pytest.mark.parametrize("options", [{"share": 0.25}, {"scope": "global"}, {"scope": "global", "share": 0.75}, {}])
def test_a_curve_is_of_the_rule_that_made_the_labels(options: dict[str, object], tmp_path: Path) -> None:
    run(LOGITS, tmp_path, PseudoLabelConfig(nu=0, **options))  # type: ignore[arg-type]
    found = json.loads((tmp_path / "selection.json").read_text())
    (made,), curve = found["sets"], found["curves"]["entropy"]
    assert made["coverage"] == pytest.approx(float(options.get("share", 0.5)), abs=0.01)  # type: ignore[arg-type]
    # The median is taken at its bin, so that a little more is kept.
    assert 0 <= curve["coverage"][0] - made["coverage"] < 0.02
    for c, row in enumerate(made["classes"]):
        assert 0 <= (curve["class_coverage"][0][c] or 0) - row["coverage"] < 0.05
