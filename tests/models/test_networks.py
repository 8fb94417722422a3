"""What the networks promise beside their outputs: seeds, batch norm, small widths."""

from __future__ import annotations

import pytest
import torch

from esl_dist.config.schema import DeepLabV2Config, ModelConfig
from esl_dist.models import DeepLabV2, build_discriminator, build_segmenter
from esl_dist.models.deeplabv2 import Head

SMALL = {"layers": (1, 1, 1, 1), "width": 8}


def test_weights_are_a_function_of_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    first = build_segmenter(ModelConfig(deeplabv2=DeepLabV2Config(**SMALL)), 5, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator moved"
    torch.manual_seed(99)
    again, other = (
        build_segmenter(ModelConfig(deeplabv2=DeepLabV2Config(**SMALL)), 5, seed=3).state_dict(),
        build_segmenter(ModelConfig(deeplabv2=DeepLabV2Config(**SMALL)), 5, seed=4).state_dict(),
    )
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key, value in first.items() if value.ndim == 4 or ("layer6" in key and "bias" in key)]
    assert drawn and not any(torch.equal(first[key], other[key]) for key in drawn)
    maps = [build_discriminator(ModelConfig(), 5, seed).state_dict() for seed in (1, 1, 2)]
    assert torch.equal(maps[0]["4.bias"], maps[1]["4.bias"]) and not torch.equal(maps[0]["4.bias"], maps[2]["4.bias"])


@pytest.mark.parametrize(("init", "spread"), [("normal", 0.01), ("kaiming", (2 / (128 * 9)) ** 0.5)])
def test_initial_distributions(init: str, spread: float) -> None:
    model = build_segmenter(
        ModelConfig(deeplabv2=DeepLabV2Config(layers=(1, 1, 1, 1), width=32, init=init)), 19, seed=1
    )
    assert model.layer3[0].conv2.weight.std().item() == pytest.approx(spread, rel=0.02)
    assert model.layer6.conv2d_list[0].weight.std().item() == pytest.approx(0.01, rel=0.02)
    state = model.state_dict()
    assert (
        (state["bn1.weight"] == 1).all()
        and (state["bn1.bias"] == 0).all()
        and (state["layer4.0.bn3.running_var"] == 1).all()
    )


def test_initial_discriminator_spread_is_torchs_own() -> None:
    model = build_discriminator(ModelConfig(), 19, seed=1)
    for index in (0, 4, 8):
        weight = model[index].weight
        assert weight.abs().max().item() == pytest.approx(weight[0].numel() ** -0.5, rel=0.02)


def test_batch_norm_affine_never_trains() -> None:
    model = build_segmenter(ModelConfig(deeplabv2=DeepLabV2Config(**SMALL)), 5, seed=1)
    model(torch.randn(2, 3, 33, 33)).main.sum().backward()
    for norm in model.norms():
        assert norm.weight.grad is None and norm.bias.grad is None and not norm.weight.requires_grad
    assert all(
        "bn" not in name and "downsample.1" not in name
        for group in model.parameter_groups()
        for name, _ in group.parameters
    )


def test_frozen_statistics_stay_frozen_in_training() -> None:
    model = build_segmenter(ModelConfig(bn="frozen", deeplabv2=DeepLabV2Config(**SMALL)), 5, seed=1).train()
    assert model.training and not any(norm.training for norm in model.norms())
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    images = torch.randn(2, 3, 33, 33)
    trained = model(images).main
    assert all(torch.equal(before[name], buffer) for name, buffer in model.named_buffers())
    torch.testing.assert_close(trained, model.eval()(images).main)
    model.freeze_statistics(False).train()
    assert all(norm.training for norm in model.norms())
    assert not torch.allclose(model(images).main, trained)


@pytest.mark.parametrize(("multi_level", "branches"), [(True, 4), (True, 2), (False, 4), (False, 2)])
def test_every_trainable_parameter_gets_a_gradient(multi_level: bool, branches: int) -> None:
    """A parameter that no output reaches would stop DistributedDataParallel."""
    model = DeepLabV2(5, multi_level=multi_level, aspp_branches=branches, **SMALL)
    outputs = model(torch.randn(2, 3, 33, 49))
    assert outputs.main.shape == (2, 5, 5, 7) and (outputs.aux is None) != multi_level
    sum(head.sum() for head in outputs if head is not None).backward()
    trainable = [pair for group in model.parameter_groups() for pair in group.parameters]
    assert all(p.grad is not None for _, p in trainable)
    assert {name for name, _ in trainable} == {name for name, p in model.named_parameters() if p.requires_grad}


def test_impossible_networks_are_refused() -> None:
    for wrong in ({"num_classes": 1}, {"num_classes": 19, "aspp_branches": 3}):
        with pytest.raises(ValueError, match="DeepLabV2"):
            DeepLabV2(**wrong)


@pytest.mark.parametrize("size", [(5, 9), (17, 33), (30, 7), (25, 26)])
def test_a_head_that_computes_other_than_by_convolutions_is_the_sum_of_its_convolutions(size: tuple[int, int]) -> None:
    head = Head(4, 3, 4).double()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    expected = sum(branch(x) for branch in head.conv2d_list)
    wanted = torch.autograd.grad(expected.square().sum(), list(head.parameters()))
    found = head(x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    for ours, plain in zip(torch.autograd.grad(found.square().sum(), list(head.parameters())), wanted, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-11, atol=1e-11)


def test_the_grid_of_the_logits_is_known_beforehand() -> None:
    model = DeepLabV2(5, multi_level=False, layers=(1, 1, 1, 1), width=4).eval()
    for size in ((32, 64), (33, 47), (40, 57), (96, 49)):
        with torch.no_grad():
            assert model(torch.zeros(1, 3, *size)).main.shape[2:] == model.output_size(size)
    assert model.output_size((512, 1024)) == (65, 129) and model.output_size((720, 1280)) == (91, 161)


def test_the_plain_form_is_the_same_function() -> None:
    model = DeepLabV2(5, **SMALL).eval()
    for size in ((64, 96), (256, 224)):
        image = torch.randn(1, 3, *size)
        with torch.no_grad():
            for head in (model.layer5, model.layer6):
                head.plain = False
            fast = model(image)
            plain = model.plainly()(image)
        for one, other in zip(fast, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
