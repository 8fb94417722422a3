"""The benchmark measures like with like: both procedures label the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from esl_dist.benchmarks import extract, extract_whole


def test_the_recreated_procedure_and_this_package_keep_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extract, "SIZE", (256, 128))
    extract.published(3, tmp_path / "published")
    extract.ours(3, tmp_path / "ours")
    for i in range(3):
        theirs, ours = (
            np.asarray(Image.open(path / f"{i:06d}.png"))
            for path in (tmp_path / "published", tmp_path / "ours" / "0.1" / "labels")
        )
        assert (theirs != 255).mean() > 0.4
        assert (theirs != ours).mean() < 1e-3, "the two medians are at most one pixel apart"


def test_a_table_can_be_made_of_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(function: object, what: str, number: int, fast: bool = True) -> dict[str, object]:
        return {
            "images": number,
            "cpu_s": number * (0.13 if what == "published" else 0.013),
            "wall_s": 1.0,
            "peak_mib": 10.0 * number,
            "scores": "exact (x)",
        }

    monkeypatch.setattr(extract, "apart", measured)
    results = extract.run(30, (100,), 10)
    assert results["fast_times_less_cpu"] == pytest.approx(10) and results["published_mib_per_image"] == pytest.approx(
        10
    )
    assert "10.0x" in extract.table(results)


def test_the_computed_node_is_arithmetic() -> None:
    node = extract_whole.computed(18_000, 8, forward_ms=100)
    assert node["spooled_gb_logits"] == pytest.approx(11.47, abs=0.01)
    assert node["hours_of_forward"] == pytest.approx(18_000 * 0.1 / 8 / 3600)


@pytest.mark.slow
def test_the_measurements_run(tmp_path: Path) -> None:
    results = extract.run(6, (4,), 4)
    assert "less CPU" in extract.table(results) and results["plain"]["scores"] == "exact (numpy)"
    whole = extract_whole.whole(6, 2)
    assert whole["coverage"]["esl"] >= 0.5 and "computed for" in extract_whole.table(whole, extract_whole.computed())
