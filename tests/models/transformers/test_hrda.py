"""Multi-resolution fusion: where details lie, what the attention does, what slides at inference (golden check 5)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from esl_dist.config.load import load_config
from esl_dist.models import build_segmenter, stochastic, weights
from esl_dist.models.boxes import Box, DrawnBox
from esl_dist.models.hrda import averaged, box_step, draw_box, fitted, fuse
from tests.models.transformers.common import CLASSES, built, images


def test_full_attention_shows_the_detail() -> None:
    """a = 1 inside the box and a detail of sevens: 7 inside, away from the resized border; the context outside."""
    context = torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    box = Box(4, 6, 8, 8)
    detail = Box(8, 12, 16, 16).placed(torch.full((1, 2, 16, 16), 7.0), (32, 32))
    fused = fuse(context, box.within(torch.ones(1, 2, 16, 16)), detail)
    assert fused.shape == (1, 2, 32, 32)
    assert torch.equal(fused[:, :, 9:23, 13:27], torch.full((1, 2, 14, 14), 7.0))
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[7:25, 11:29] = False
    up = F.interpolate(context, scale_factor=2.0, mode="bilinear", align_corners=False)
    torch.testing.assert_close(fused[:, :, outside], up[:, :, outside])


@pytest.mark.parametrize(("published", "last"), [(True, 504), (False, 512)])
def test_corners(published: bool, last: int) -> None:
    """Multiples of 8 in [0, 504] as published, in [0, 512] otherwise; a function of the common number alone."""
    step = box_step((1024, 1024), (128, 128))
    assert step == (8, 8)
    seen = set()
    for common in range(400):
        with stochastic.drawing(torch.tensor([common % 3]), torch.tensor([common])):
            box = draw_box((1024, 1024), step, published)
        with stochastic.drawing(torch.tensor([77, 78]), torch.tensor([common])):
            assert draw_box((1024, 1024), step, published) == box
        seen |= {int(box.top), int(box.left)}
        assert box[2:] == (512, 512)
    assert min(seen) == 0 and max(seen) == last and all(corner % 8 == 0 for corner in seen)


def reference_corner(common: int, size: tuple[int, int], step: tuple[int, int]) -> tuple[int, int]:
    """As the host would draw it: SplitMix64, 53 bits, in Python's integers."""

    def mixed(x: int) -> int:
        x = (x + 0x9E3779B97F4A7C15) % 2**64
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return x ^ (x >> 31)

    stream = mixed(common ^ 0x9E3779B97F4A7C15)
    numbers = [(mixed((stream + i * 0x9E3779B97F4A7C15) % 2**64) >> 11) / 2**53 for i in range(2)]
    top, left = (int(x * (side // 2 // unit + 1)) * unit for x, side, unit in zip(numbers, size, step, strict=True))
    return top, left


def test_a_box_that_the_device_draws_has_the_bits_of_slices() -> None:
    """Corner, part, place, what attends, and the gradients of all: of the same box known to the host."""
    generator = torch.Generator().manual_seed(2)
    size, grid = (96, 160), (24, 40)
    for common in (0, 5, 1 << 61, 12345678901234567):
        with stochastic.drawing(torch.tensor([1]), torch.tensor([common])):
            drawn = draw_box(size, box_step(size, grid))
        box = Box(*reference_corner(common, size, box_step(size, grid)), *drawn[2:])
        assert (int(drawn.top), int(drawn.left), *drawn[2:]) == box
        labels = torch.randint(0, 255, (2, *size), generator=generator, dtype=torch.uint8)
        assert torch.equal(drawn.of(labels), box.of(labels))
        fine = (2 * grid[0], 2 * grid[1])
        near, coarse = (b.scaled(size, fine) for b in (drawn, box)), (b.scaled(size, grid) for b in (drawn, box))
        found = []
        values = torch.randn(2, 3, *grid, generator=generator)
        for one, other in zip(near, coarse, strict=True):
            part, attention = (values.clone().requires_grad_() for _ in range(2))
            placed, inside = one.placed(part, fine), other.within(attention)
            (placed * torch.arange(placed.numel()).view_as(placed)).sum().backward()
            (inside * torch.arange(inside.numel()).view_as(inside)).sum().backward()
            found.append([placed.detach(), inside.detach(), part.grad, attention.grad])
        for mine, slices in zip(*found, strict=True):
            assert torch.equal(mine, slices)  # type: ignore[arg-type]


def test_a_drawn_box_must_fit_its_grid() -> None:
    with pytest.raises(AssertionError):
        DrawnBox(torch.tensor([0]), torch.tensor([0]), 50, 50).scaled((100, 100), (25, 25))


def test_average_of_overlapping_parts() -> None:
    boxes = [Box(i * 2, j * 2, 4, 4) for i in range(3) for j in range(3)]
    parts = torch.arange(9.0).view(9, 1, 1, 1, 1).expand(9, 1, 1, 4, 4)
    whole = averaged(parts, boxes)[0, 0]
    assert whole.shape == (8, 8)
    assert whole[0, 0] == 0 and whole[0, 2] == 0.5 and whole[3, 3] == (0 + 1 + 3 + 4) / 4 and whole[7, 7] == 8


@pytest.mark.parametrize("name", ["hrda-daformer", "hrda-vfm_uda"])
def test_training_sees_one_detail_and_inference_nine(name: str) -> None:
    network = built(name)
    sizes = []
    encode = network.segmenter.encode
    network.segmenter.encode = lambda x: sizes.append(tuple(x.shape)) or encode(x)
    with torch.no_grad():
        whole = network(images(2, 128, 192))
        assert sizes == [(2, 3, 64, 96), (18, 3, 64, 96)] and whole.detail is None and whole.box is None
        sizes.clear()
        network.train()
        with stochastic.drawing(torch.tensor([1, 2]), torch.tensor([5])):
            trained = network(images(2, 128, 192))
        assert sizes == [(2, 3, 64, 96)] * 2
        assert trained.detail.shape[2:] == tuple(side // 2 for side in trained.main.shape[2:])
        assert trained.box[2:] == (64, 96)
        with stochastic.still():
            assert network(images(2, 128, 192)).detail is None, (
                "a teacher's pass slides, whatever mode its norms are in"
            )


def test_fusion_of_a_box_is_fusion_of_its_parts() -> None:
    """Training with the detail in a corner and inference agree where only that corner's detail lies."""
    network = built("hrda-daformer")
    x = images(1, 128, 128)
    with torch.no_grad():
        whole, corner = network(x).main, network(x, box=Box(0, 0, 64, 64)).main
        assert whole.shape == (1, CLASSES, 32, 32)
        torch.testing.assert_close(whole[:, :, :7, :7], corner[:, :, :7, :7])
        assert (whole - corner)[:, :, 18:, 18:].abs().max() > 1e-5


def test_box_between_cells_is_refused() -> None:
    network = built("hrda-daformer")
    with pytest.raises(AssertionError, match="does not lie on a grid"):
        network(images(1, 128, 128), box=Box(4, 0, 64, 64))


def test_odd_sizes_are_resized() -> None:
    assert fitted(images(1, 64, 128), 32).shape == fitted(images(1, 70, 120), 32).shape == (1, 3, 64, 128)
    network = built("hrda-daformer")
    with torch.no_grad():
        assert network(images(1, 70, 110)).main.shape == (1, CLASSES, *network.output_size((70, 110)))
        with pytest.raises(ValueError, match="multiples of 64, not 110x70"):
            network.train()(images(1, 70, 110))


def test_a_segmenter_is_not_another_one_inside() -> None:
    """Its weights are those of the same seed alone, so that a source-only row tells the two resolutions apart."""
    alone, inside = built("daformer").state_dict(), built("hrda-daformer").segmenter.state_dict()
    assert all(torch.equal(alone[key], inside[key]) for key in alone)


@pytest.mark.parametrize(
    ("name", "options"), [("deeplabv2", {"layers": [1, 1, 1, 1], "width": 8}), ("efficientnet", {})]
)
def test_any_segmenter(name: str, options: dict[str, object], tmp_path: Path) -> None:
    """Of one head; what is published for it alone loads into it."""
    own = {"multi_level": False, "init": "kaiming", **options}
    words = ["model.hrda=true", f"model.name={name}", *(f"model.{name}.{key}={value}" for key, value in own.items())]
    network = build_segmenter(load_config("streets.yaml", words).model, CLASSES, 1)
    assert network.describe().endswith("at two resolutions (HRDA)")
    network.train()
    out = network(images())
    assert out.main.shape == (2, CLASSES, *network.output_size((64, 128))) == (2, CLASSES, 8, 16)
    (out.main.square().sum() + out.detail.sum()).backward()
    grouped = [p for group in network.parameter_groups() for _, p in group.parameters]
    assert all(p.grad is not None for p in grouped)
    assert {id(p) for p in grouped} == {id(p) for p in network.parameters() if p.requires_grad}
    with torch.no_grad():
        assert network.eval()(images()).main.shape == out.main.shape
    alone = network.segmenter.inner
    state = {key: torch.full_like(value, 0.5) for key, value in alone.state_dict().items()}
    torch.save(state, tmp_path / "alone.pth")
    weights.load(tmp_path / "alone.pth", network, "advent" if name == "deeplabv2" else "auto")
    assert all((value == 0.5).all() for value in alone.state_dict().values() if value.is_floating_point())


def test_two_heads_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model.hrda: .*model.deeplabv2.multi_level=false"):
        load_config("streets.yaml", ["model.hrda=true", "model.name=deeplabv2"])
