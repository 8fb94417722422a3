"""Generated hostile inputs: each is refused in a few lines or answered rightly; none ends in a traceback, leaves a file
elsewhere or passes with another meaning. ``pytest tests/hostile -s -m ''`` runs thousands, with counts.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esl_dist.data.decode import DataError, read_ids
from tests.hostile import configurations, pictures, recorded, surroundings, trees
from tests.hostile.trial import Case, Ended, Tally, call, complaint, untouched

SHORT, LONG = 1, 25
"""Both draw the same way; the long one goes on for longer, and through every text and environment."""


def tallied(folder: Path, scale: int, seed: int) -> Tally:
    tally = Tally()
    empty = folder / "empty"
    empty.mkdir()
    for cases in (
        configurations.words_cases(seed, 50 * scale, empty),
        configurations.text_cases(seed, 40 * scale, empty),
        configurations.kept_text_cases(empty, 1 if scale > SHORT else 25),
        pictures.label_cases(seed, 40 * scale, folder),
        pictures.image_cases(seed, 30 * scale, folder),
        trees.tree_cases(seed, 15 * scale, folder),
        trees.list_cases(seed, 20 * scale, folder),
        recorded.record_cases(seed, 20 * scale, folder),
        recorded.weight_cases(seed, 15 * scale, folder),
        recorded.report_cases(seed, 4 * scale, folder),
    ):
        for case in cases:
            tally.take(case)
    return tally


def test_a_few_hundred_inputs(tmp_path: Path) -> None:
    tally = tallied(tmp_path, SHORT, seed=1)
    print(tally)
    assert tally.bad == []
    assert min(sum(tally.ok.values()), sum(tally.refused.values())) > 40  # neither everything nor nothing is refused


def test_a_few_environments(tmp_path: Path) -> None:
    tally = Tally()
    for case in surroundings.environment_cases(tmp_path, 16):
        tally.take(case)
    print(tally)
    assert tally.bad == []


def test_no_flipped_bit_of_a_label_is_another_id(tmp_path: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 34, (9, 14), np.uint8)
    good = pictures.grey_png(ids, 8)
    refused = 0
    for place in range(len(good)):
        broken = bytearray(good)
        broken[place] ^= 1 << place % 8
        (tmp_path / "label.png").write_bytes(broken)
        try:
            assert np.array_equal(read_ids(tmp_path / "label.png"), ids), place
        except DataError:
            refused += 1
    assert refused == len(good)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_thousands_of_inputs(tmp_path: Path) -> None:
    tally = tallied(tmp_path, LONG, seed=2)
    print(tally)
    assert tally.bad == []
    assert sum(tally.ok.values()) + sum(tally.refused.values()) >= 5000


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_environment(tmp_path: Path) -> None:
    tally = Tally()
    for case in surroundings.environment_cases(tmp_path, 1):
        tally.take(case)
    print(tally)
    assert tally.bad == []


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (Ended(0, "", ""), ""),
        (Ended(2, "", "esl_dist: error: x\n"), ""),
        (Ended(2, "", ""), "without a word"),
        (Ended(1, "", "", "Traceback: x"), "Traceback"),
        (Ended(2, "", "esl_dist: error: a\nb\nc\nd\n"), "4 lines"),
        (Ended(2, "", "what\n"), "no line says what"),
        (Ended(3, "", "esl_dist: error: x\n"), "exit code 3"),
    ],
)
def test_the_judge_can_say_no(ended: Ended, said: str, tmp_path: Path) -> None:
    assert (said in complaint(ended)) if said else complaint(ended) == ""
    tally = Tally()
    tally.take(Case("kind", "what", lambda: (True, "wrong")))
    tally.take(Case("kind", "what", lambda: 1 / 0))  # type: ignore[arg-type,return-value]
    assert len(tally.bad) == 2 and "ZeroDivisionError" in tally.bad[1]
    with untouched(tmp_path) as new:
        Path("left").touch()
    assert new == ["left"]
    assert call(["trian"]).code == 2
