"""The argmax by cells is the argmax of the upsampled logits."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from esl_dist.metrics import upsample
from esl_dist.metrics.upsample import upsampled_argmax


def _smooth(classes: int, h: int, w: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, max(2, h // 6), max(2, w // 6), generator=generator) * 4
    return functional.interpolate(coarse, (h, w), mode="bicubic", align_corners=True)[0] + 0.2 * torch.randn(
        classes, h, w, generator=generator
    )


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize(
    ("h", "w", "width", "height"),
    [(17, 33, 256, 128), (5, 7, 33, 31), (9, 17, 9, 4), (12, 20, 20, 12), (65, 129, 517, 259)],
)
def test_equals_interpolate_then_argmax(h: int, w: int, width: int, height: int, smooth: bool) -> None:
    logits = _smooth(19, h, w, h) if smooth else torch.randn(19, h, w, generator=torch.Generator().manual_seed(w))
    exact = functional.interpolate(logits.double()[None], (height, width), mode="bilinear", align_corners=True)[0]
    found = upsampled_argmax(logits, (width, height)).long()
    assert found.shape == (height, width)
    # Float32 may break a tie of the exact values, and nothing else.
    lost = exact.amax(0) - exact.gather(0, found[None])[0]
    assert lost.max() < 1e-5


@pytest.mark.parametrize(("h", "w"), [(1, 1), (1, 4), (3, 1)])
def test_maps_of_one_pixel(h: int, w: int) -> None:
    logits = torch.randn(5, h, w, generator=torch.Generator().manual_seed(3))
    expected = functional.interpolate(logits[None], (6, 8), mode="bilinear", align_corners=True)[0].argmax(0)
    assert torch.equal(upsampled_argmax(logits, (8, 6)).long(), expected)


def test_the_first_class_wins_a_tie_and_one_output_pixel_is_the_corner() -> None:
    assert upsampled_argmax(torch.zeros(4, 3, 3), (7, 5)).unique().tolist() == [0]
    logits = torch.zeros(4, 3, 3)
    logits[2, 0, 0] = 1
    assert upsampled_argmax(logits, (1, 1)).tolist() == [[2]]


def test_same_labels_for_any_number_of_threads() -> None:
    logits = _smooth(19, 33, 65, 8)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = upsampled_argmax(logits, (400, 200))
        torch.set_num_threads(2)
        assert torch.equal(one, upsampled_argmax(logits, (400, 200)))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("h", "w", "width", "height"),
    [(17, 33, 256, 128), (5, 7, 33, 31), (9, 17, 9, 4), (65, 129, 517, 259), (1, 4, 9, 7), (3, 1, 1, 1)],
)
@pytest.mark.parametrize("kind", ["smooth", "noise", "ties", "huge", "tiny", "constant"])
def test_numba_gives_the_pixels_of_torch(h: int, w: int, width: int, height: int, kind: str) -> None:
    pytest.importorskip("numba", reason="numba is not installed")
    noise = torch.randn(19, h, w, generator=torch.Generator().manual_seed(h + w))
    logits = {
        "smooth": _smooth(19, h, w, h),
        "noise": noise,
        "ties": noise.round(),
        "huge": noise * 1e30,
        "tiny": noise * 1e-30,
        "constant": noise * 0,
    }[kind]
    plain = upsample._eager(upsample.at_least_two(logits), (width, height))
    assert torch.equal(upsampled_argmax(logits, (width, height)), plain)
    assert torch.equal(
        upsampled_argmax(logits.double().permute(2, 1, 0).contiguous().permute(2, 1, 0), (width, height)), plain
    ), "any type, any strides"


def test_numba_keeps_classes_that_rounding_could_tie() -> None:
    """Two classes an ulp apart, each ahead at some corners: the margin must leave the decision to the very arithmetic
    of torch.
    """
    pytest.importorskip("numba", reason="numba is not installed")
    generator = torch.Generator().manual_seed(1)
    base = torch.randn(1, 9, 9, generator=generator) * 3
    ulps = torch.randint(-2, 3, (6, 9, 9), generator=generator, dtype=torch.int32)
    logits = (base.expand(6, 9, 9).contiguous().view(torch.int32) + ulps).view(torch.float32)
    assert torch.equal(upsampled_argmax(logits, (129, 97)), upsample._eager(logits, (129, 97)))


def test_a_map_with_nan_is_decided_by_torch() -> None:
    logits = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(2))
    logits[1, 2, 3] = torch.nan
    assert torch.equal(upsampled_argmax(logits, (40, 30)), upsample._eager(logits, (40, 30)))


def test_where_numba_gives_other_pixels_it_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiled = pytest.importorskip("esl_dist.metrics.compiled", reason="numba is not installed")
    monkeypatch.setattr(compiled, "label_cells", lambda *arguments: arguments[-1].fill(0))
    upsample._compiled.cache_clear()
    try:
        assert upsample._compiled() is None and "does not give torch's pixels" in caplog.text
    finally:
        upsample._compiled.cache_clear()
