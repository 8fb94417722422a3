"""Label pooling's 0.75 rule, and the distance with its gradient."""

from __future__ import annotations

import pytest
import torch

from esl_dist.losses.feature_distance import IGNORED, pooled_labels, positions_of, thing_distance


def cell(thing: int, road: int, ignored: int = 0) -> torch.Tensor:
    """10 x 10 pixels of class 3 (a thing), 0 (road) and none."""
    return torch.tensor([3] * thing + [0] * road + [255] * ignored, dtype=torch.uint8).view(1, 10, 10)


@pytest.mark.parametrize(
    ("label", "expected"),
    [(cell(64, 36), IGNORED), (cell(80, 20), 3), (cell(75, 25), 3), (cell(0, 100), 0), (cell(20, 0, 80), IGNORED)],
)
def test_a_cell_has_the_class_of_three_quarters_of_its_pixels(label: torch.Tensor, expected: int) -> None:
    assert pooled_labels(label, (1, 1), 5).tolist() == [[[expected]]]


def test_cells_in_their_places_also_where_sides_do_not_divide() -> None:
    label = torch.cat([cell(100, 0), cell(0, 100)], dim=2)
    assert pooled_labels(label, (2, 2), 5).tolist() == [[[3, 0], [3, 0]]]
    assert pooled_labels(label, (3, 7), 5)[0, 0].tolist() == [3, 3, 3, IGNORED, 0, 0, 0]


def test_the_distance_by_hand_and_its_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 6, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(2, 6, 3, 4, generator=generator, dtype=torch.float64)
    where = positions_of(torch.randint(0, 5, (2, 3, 4), generator=generator, dtype=torch.uint8), (1, 3))
    given = features.detach()
    expected = sum(float((given[n, :, y, x] - reference[n, :, y, x]).norm()) for n, y, x in where.nonzero().tolist())
    found = thing_distance(features, reference, where, int(where.sum()))
    assert 0 < int(where.sum()) < where.numel() and float(found.detach()) == pytest.approx(
        expected / int(where.sum()), rel=1e-12
    )
    assert torch.autograd.gradcheck(lambda f: thing_distance(f, reference, where, 5), features)


def test_nothing_to_compare_and_networks_that_agree_give_zero_without_nan() -> None:
    features = torch.ones(1, 2, 2, 2, requires_grad=True)
    for where in (torch.zeros(1, 2, 2, dtype=torch.bool), torch.ones(1, 2, 2, dtype=torch.bool)):
        features.grad = None
        loss = thing_distance(features, torch.ones(1, 2, 2, 2), where, 1.0)
        loss.backward()
        assert float(loss.detach()) == 0 and features.grad is not None and float(features.grad.abs().sum()) == 0
