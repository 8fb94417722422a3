"""ViT-Adapter: deformable attention, and an adapter that changes nothing in the transformer at its start."""

from __future__ import annotations

import pytest
import torch

from esl_dist.models.adapter.deformable import DeformableAttention, centres, gathered, sample
from esl_dist.models.adapter.interaction import LevelConvolution
from esl_dist.models.initial import initialise
from tests.models.transformers.common import CLASSES, built, images


def test_indexing_is_grid_sampling() -> None:
    """Value and gradients, also of points that lie outside and on the border."""
    generator = torch.Generator().manual_seed(4)
    maps = torch.randn(3, 4, 5, 7, dtype=torch.float64, generator=generator).requires_grad_()
    where = (torch.rand(3, 6, 4, 2, dtype=torch.float64, generator=generator) * 1.6 - 0.3).requires_grad_()
    results = []
    for function in (sample, gathered):
        out = function(maps, where)
        assert out.shape == (3, 4, 6, 4)
        results.append((out, *torch.autograd.grad(out.square().sum(), (maps, where))))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_attention_by_hand() -> None:
    """Two levels, one head, one point: a sum over levels of weight times the bilinear value where the offset leads."""
    layer = DeformableAttention(4, heads=1, levels=2, points=1, ratio=1.0).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.5)
    grids = [(4, 6), (2, 3)]
    queries, maps = (
        torch.randn(1, 3, 4, generator=generator).double(),
        torch.randn(1, 30, 4, generator=generator).double(),
    )
    places = torch.tensor([[0.3, 0.4], [0.5, 0.5], [0.8, 0.1]]).double()
    got = layer(queries, places, maps, grids)
    values, offsets = layer.value_proj(maps)[0], layer.sampling_offsets(queries)[0].view(3, 2, 2)
    weights = layer.attention_weights(queries)[0].softmax(-1)
    rows = []
    for q in range(3):
        total = torch.zeros(4, dtype=torch.float64)
        for level, ((h, w), start) in enumerate(zip(grids, (0, 24), strict=True)):
            x, y = (places[q] * torch.tensor([w, h]) + offsets[q, level] - 0.5).tolist()
            for row in range(h):
                for column in range(w):
                    share = max(0.0, 1 - abs(x - column)) * max(0.0, 1 - abs(y - row))
                    total += weights[q, level] * share * values[start + row * w + column]
        rows.append(total)
    torch.testing.assert_close(
        got[0], layer.output_proj(torch.stack(rows)), rtol=1e-5, atol=1e-5
    )  # it samples in float32


def test_heads_look_around_them_at_the_start() -> None:
    layer = initialise(DeformableAttention(256, heads=4, levels=3), 1)
    offsets = layer.sampling_offsets.bias.view(4, 3, 4, 2)
    torch.testing.assert_close(offsets[0, 0, :, 0], torch.arange(1.0, 5.0))
    torch.testing.assert_close(offsets[1, 2, :, 1], torch.arange(1.0, 5.0))
    assert offsets[0, 0, :, 1].abs().max() < 1e-6 and not layer.attention_weights.weight.any()


def test_centres() -> None:
    points = centres([(2, 4), (1, 1)], torch.device("cpu"))
    assert points.shape == (9, 2) and points[1].tolist() == [0.375, 0.25] and points[8].tolist() == [0.5, 0.5]


def test_levels_do_not_mix_in_a_convolution() -> None:
    layer = initialise(LevelConvolution(3), 1)
    x = torch.zeros(1, 8 + 2, 3)
    x[:, 7] = 1
    out = layer(x, [(2, 4), (1, 2)])
    assert out[:, :8].any() and not out[:, 8:].any()


def test_an_injector_begins_silent() -> None:
    """So the first quarter of the transformer reads what it read without an adapter."""
    network = built("vfm_uda_plus")
    encoder = network.encoder
    seen = []
    block = encoder.block
    encoder.block = lambda i, x: seen.append(x) or block(i, x)
    with torch.no_grad():
        logits = network(images(1, 200, 204)).main
        assert logits.shape == (1, CLASSES, 56, 56), "200 is enlarged to 220, the nearest multiple of 224 is 224"
        enlarged = torch.nn.functional.interpolate(
            images(1, 200, 204), (224, 224), mode="bilinear", align_corners=False
        )
        torch.testing.assert_close(seen[0], encoder.embedded(enlarged))
        encoder.interactions[0].injector.gamma.fill_(1.0)
        seen.clear()
        network(images(1, 200, 204))
        assert (seen[0] - encoder.embedded(enlarged)).abs().max() > 1e-3


@pytest.mark.parametrize("side", [1024, 512])
def test_sizes_of_maps(side: int) -> None:
    """1024 becomes 1120: maps of 280, 140, 70 and 35."""
    network = built("vfm_uda_plus")
    network.encoder.pyramid = lambda x: (x,)
    assert (
        network.encode(torch.zeros(1, 3, side, side, device="meta"))[0].shape[2:]
        == {1024: (1120, 1120), 512: (672, 672)}[side]
    )
