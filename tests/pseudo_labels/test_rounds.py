"""Temperature, growing portions, and how much two rounds' labels agree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.pseudo_labels import from_logits
from esl_dist.pseudo_labels.sets.agreement import agreement
from esl_dist.pseudo_labels.thresholds.rules import portion_of
from tests.pseudo_labels.common import hashes, run, small_logits
from tests.ranks import run_ranks

LOGITS = [small_logits(i) for i in range(6)]
CLASSES = [f"class {c}" for c in range(5)]


@pytest.mark.parametrize("rule", ["esl", "cbst"])
def test_temperature_is_the_logits_divided_by_it(rule: str, tmp_path: Path) -> None:
    warm = PseudoLabelConfig(rule=rule, temperature=4)  # type: ignore[arg-type]
    (made,) = run(LOGITS, tmp_path / "warm", warm, spool="scores" if rule == "esl" else "logits")
    (divided,) = run([z / 4 for z in LOGITS], tmp_path / "divided", PseudoLabelConfig(rule=rule), spool="logits")  # type: ignore[arg-type]
    (cold,) = run(LOGITS, tmp_path / "cold", PseudoLabelConfig(rule=rule), spool="logits")  # type: ignore[arg-type]
    assert hashes(made.out) == hashes(divided.out) and made.thresholds["classes"] == divided.thresholds["classes"]
    assert hashes(made.out) != hashes(cold.out)
    items = ((f"town/{i:03d}", z) for i, z in enumerate(LOGITS))
    assert hashes(from_logits(items, tmp_path / "own", size=(24, 40), class_names=CLASSES, setting=warm).out) == hashes(
        made.out
    )


def test_a_spool_of_another_temperature_is_refused(tmp_path: Path) -> None:
    run(LOGITS, tmp_path, PseudoLabelConfig())
    with pytest.raises(ValueError, match=r"another run \(temperature: 1.0 there, 2.0 here\)"):
        run(LOGITS, tmp_path, PseudoLabelConfig(temperature=2.0), from_spool=True)
    with pytest.raises(ValueError, match="need the same temperature"):
        run(LOGITS, tmp_path, PseudoLabelConfig(), PseudoLabelConfig(temperature=2.0))


def sets_of_two_rounds(folder: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    stream = np.random.RandomState(0)
    maps = []
    for number in ("esl", "esl-r2"):
        labels = [
            np.where(stream.random_sample((9, 7)) < 0.4, 255, stream.randint(0, 3, (9, 7))).astype(np.uint8)
            for _ in range(4)
        ]
        for i, label in enumerate(labels):
            path = folder / number / "labels" / f"town/{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(label).save(path)
        maps.append(labels)
    return maps[0], maps[1]


def measured(folder: str) -> dict[str, float]:
    return agreement(Path(folder, "esl"), Path(folder, "esl-r2"), [f"town/{i}" for i in range(4)])


def test_agreement_counts_pixels_kept_by_both(tmp_path: Path) -> None:
    first, second = (np.stack(maps) for maps in sets_of_two_rounds(tmp_path))
    both = (first != 255) & (second != 255)
    expected = {"both_kept": both.mean(), "agreed": (both & (first == second)).mean()}
    assert 0 < expected["agreed"] < expected["both_kept"] < 1
    assert measured(str(tmp_path)) == pytest.approx(expected)
    assert run_ranks(3, "tests.pseudo_labels.test_rounds:measured", str(tmp_path)) == [measured(str(tmp_path))] * 3


def test_agreement_of_other_sizes_is_refused(tmp_path: Path) -> None:
    sets_of_two_rounds(tmp_path)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "esl-r2/labels/town/3.png")
    with pytest.raises(ValueError, match=r"3\.png: 2x2 pixels, the round before has 7x9"):
        measured(str(tmp_path))


def test_portion_grows_by_the_round_up_to_a_half() -> None:
    setting = PseudoLabelConfig(rule="cbst", portion=0.2, portion_growth=0.05)
    assert [float(portion_of(setting, r)) for r in (0, 1, 6, 20)] == [0.2, 0.25, 0.5, 0.5]
