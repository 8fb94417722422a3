"""Weights out and in again: the same function in every layout that can hold it, and a refusal of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esl_dist.models import DeepLabV2, Discriminator, weights
from tests.models.test_refusals import tiny

IMAGES = torch.randn(2, 3, 49, 65, generator=torch.Generator().manual_seed(1))


def same(a: DeepLabV2, b: DeepLabV2) -> bool:
    with torch.no_grad():
        outputs_a, outputs_b = a.eval()(IMAGES), b.eval()(IMAGES)
    return all(
        x is y is None or torch.allclose(x, y, rtol=0, atol=1e-6) for x, y in zip(outputs_a, outputs_b, strict=True)
    )


@pytest.mark.parametrize(
    ("layout", "branches", "multi_level"),
    [
        ("advent", 4, True),
        ("advent", 4, False),
        ("advent", 2, True),
        ("bdl", 4, False),
        ("bdl", 2, False),
        ("adaptsegnet", 2, True),
        ("adaptsegnet", 2, False),
        ("maxsquare", 2, True),
    ],
)
def test_round_trip(tmp_path: Path, layout: str, branches: int, multi_level: bool) -> None:
    model, file = tiny(branches, multi_level, seed=1), tmp_path / "out.pth"
    weights.export(model, file, layout)
    for named in ("auto", layout):
        again = tiny(branches, multi_level, seed=2)
        assert not same(model, again)
        weights.load(file, again, named)
        assert same(model, again)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.pth"], "nothing is left aside"


@pytest.mark.parametrize("multi_level", [True, False])
def test_keys_are_advents_in_order(tmp_path: Path, multi_level: bool) -> None:
    weights.export(tiny(2, multi_level), tmp_path / "out.pth")
    stored = torch.load(tmp_path / "out.pth", weights_only=True)
    assert list(stored) == list(tiny(4, multi_level).state_dict())


def test_two_branches_are_the_same_function_for_code_that_sums_four(tmp_path: Path) -> None:
    model = tiny(2)
    weights.export(model, tmp_path / "out.pth", "adaptsegnet")
    four = tiny(4, seed=2)
    report = weights.load(tmp_path / "out.pth", four)
    assert report.branches == 4 and same(model, four)


@pytest.mark.parametrize("layout", ["advent", "adaptsegnet"])
def test_discriminator_round_trip(tmp_path: Path, layout: str) -> None:
    model, again = Discriminator(5, 8), Discriminator(5, 8)
    weights.export(model, tmp_path / "d.pth", layout)
    assert ("classifier.weight" in torch.load(tmp_path / "d.pth", weights_only=True)) == (layout == "adaptsegnet")
    weights.load(tmp_path / "d.pth", again)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("layout", "branches", "multi_level", "match"),
    [
        ("adaptsegnet", 4, True, "two|sums 2"),
        ("maxsquare", 4, True, "sums 2"),
        ("bdl", 4, True, "one head"),
        ("crst", 4, False, "cannot export"),
    ],
)
def test_layouts_that_would_be_another_function(
    tmp_path: Path, layout: str, branches: int, multi_level: bool, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        weights.export(tiny(branches, multi_level), tmp_path / "out.pth", layout)
    assert not list(tmp_path.iterdir())
