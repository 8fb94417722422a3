"""Someone else's network: logits and names in, labels out, alone and on ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esl_dist.distributed import collectives
from esl_dist.pseudo_labels import PseudoLabelConfig, from_logits
from tests.pseudo_labels.common import hashes, run, small_logits
from tests.ranks import run_ranks

SIZE = (24, 40)
CLASSES = [f"class {c}" for c in range(5)]


def label_here(out: str, images: int) -> Any:
    """Each rank brings its own, uneven share; the last of several brings none."""
    world = collectives.world()
    split = np.array_split(np.arange(images), max(world - 1, 1))
    mine = split[collectives.rank()] if collectives.rank() < len(split) else []
    items = ((f"town/{i:03d}", small_logits(int(i))) for i in mine)
    made = from_logits(items, out, size=SIZE, class_names=CLASSES, shard=2)
    return made.thresholds["classes"]


def test_any_iterable_of_logits_gives_the_labels_of_an_extraction(tmp_path: Path) -> None:
    logits = [small_logits(i) for i in range(7)]
    for rule in ("esl", "ssl", "cbst"):
        setting = PseudoLabelConfig(rule=rule)  # type: ignore[arg-type]
        (expected,) = run(logits, tmp_path / f"expected-{rule}", setting, spool="logits")
        made = from_logits(
            ((f"town/{i:03d}", z) for i, z in enumerate(logits)),
            tmp_path / rule,
            size=SIZE,
            class_names=CLASSES,
            setting=setting,
            shard=3,
        )
        assert made.thresholds["classes"] == expected.thresholds["classes"] and made.thresholds["images"] == 7
        assert hashes(made.out) == hashes(expected.out)
        assert not list((tmp_path / rule).rglob("*.h5")), "the spool is gone"


def test_ranks_bring_what_they_have(tmp_path: Path) -> None:
    alone = label_here(str(tmp_path / "alone"), 7)
    for result in run_ranks(3, "tests.pseudo_labels.test_api:label_here", str(tmp_path / "ranks"), 7):
        assert result == alone
    assert hashes(tmp_path / "ranks") == hashes(tmp_path / "alone")


def test_what_cannot_be_labelled_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"b: expected logits \[5, h, w\], one plane per class name, not \[4, 5, 7\]"):
        from_logits([("a", small_logits(0)), ("b", small_logits(1, 4))], tmp_path, size=SIZE, class_names=CLASSES)
    with pytest.raises(ValueError, match="a comes twice"):
        from_logits([("a", small_logits(0)), ("a", small_logits(1))], tmp_path, size=SIZE, class_names=CLASSES)
    with pytest.raises(ValueError, match="a: 175 of 175 logits are NaN or infinite"):
        from_logits([("a", np.full((5, 5, 7), np.nan))], tmp_path, size=SIZE, class_names=CLASSES)
    assert not list(tmp_path.rglob("*.png"))
