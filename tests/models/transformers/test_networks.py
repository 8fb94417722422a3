"""What the transformer networks promise: published names and sizes, seeds, gradients everywhere, recomputation without
a difference.
"""

from __future__ import annotations

import math

import pytest
import torch

from esl_dist.engine.adamw import AdamW
from esl_dist.models import dinov2, mit, stochastic
from esl_dist.models.adapter import VfmUdaPlus
from esl_dist.models.daformer import DaFormer
from esl_dist.models.dinov2 import DinoV2
from esl_dist.models.hrda import Hrda
from esl_dist.models.mit import MixTransformer
from esl_dist.models.resize import by_products
from esl_dist.models.vfm import VfmUda
from tests.models.transformers.common import CLASSES, NAMES, VIT, built, images


def count(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("size", "parameters", "entries"),
    [("small", 22_056_576, 175), ("base", 86_580_480, 175), ("large", 304_368_640, 343), ("giant", 1_136_480_768, 567)],
)
def test_dinov2_as_published(size: str, parameters: int, entries: int) -> None:
    """The hub's names; registers add four tokens."""
    with torch.device("meta"):
        network, registered = DinoV2(dinov2.SHAPES[size]), DinoV2(dinov2.SHAPES[size], registers=4)
    state = network.state_dict()
    dim = dinov2.SHAPES[size].dim
    assert (count(network), len(state)) == (parameters, entries)
    assert state["pos_embed"].shape == (1, 1 + 37**2, dim) and state["mask_token"].shape == (1, dim)
    mlp = ("w12", "w3") if size == "giant" else ("fc1", "fc2")
    block = {f"norm{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")} | {"ls1.gamma", "ls2.gamma"}
    block |= {
        f"{part}.{kind}"
        for part in ("attn.qkv", "attn.proj", *(f"mlp.{m}" for m in mlp))
        for kind in ("weight", "bias")
    }
    assert {key.removeprefix("blocks.3.") for key in state if key.startswith("blocks.3.")} == block
    assert count(registered) - parameters == 4 * dim and registered.state_dict()["register_tokens"].shape == (1, 4, dim)


@pytest.mark.parametrize(
    ("size", "parameters", "entries"),
    [
        ("b0", 3_319_392, 176),
        ("b1", 13_151_424, 176),
        ("b2", 24_196_288, 332),
        ("b3", 44_072_128, 572),
        ("b4", 60_842_688, 832),
        ("b5", 81_443_008, 1052),
    ],
)
def test_mit_as_published(size: str, parameters: int, entries: int) -> None:
    with torch.device("meta"):
        network = MixTransformer(mit.SHAPES[size])
    state = network.state_dict()
    assert (count(network), len(state)) == (parameters, entries)
    parts = (
        "attn.q",
        "attn.kv",
        "attn.proj",
        "attn.sr",
        "attn.norm",
        "mlp.fc1",
        "mlp.dwconv.dwconv",
        "mlp.fc2",
        "norm1",
        "norm2",
    )
    block = {f"{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    assert {key.removeprefix("block2.1.") for key in state if key.startswith("block2.1.")} == block
    assert not any(".sr." in key or ".attn.norm." in key for key in state if key.startswith("block4."))
    rates = [block.drop_path1.rate for _, blocks, _ in network.stages() for block in blocks]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.1) and rates[1] == pytest.approx(0.1 / (len(rates) - 1))


def test_segmenters_as_published() -> None:
    with torch.device("meta"):
        daformer, light = DaFormer(19, mit.SHAPES["b5"]), VfmUda(19, dinov2.SHAPES["large"])
        twice, plus = Hrda(DaFormer(19, mit.SHAPES["b5"])), VfmUdaPlus(19, dinov2.SHAPES["large"])
    head = {key for key in daformer.state_dict() if key.startswith("decode_head.")}
    assert count(daformer) == 81_443_008 + 3_712_275  # 85.15 million
    assert "decode_head.fuse_layer.aspp_modules.3.depthwise_conv.bn.running_mean" in head
    assert (
        "decode_head.fuse_layer.aspp_modules.0.conv.weight" in head and "decode_head.embed_layers.3.proj.bias" in head
    )
    assert daformer.decode_head.fuse_layer.bottleneck.conv.weight.shape == (256, 1024, 3, 3)
    assert count(twice) - count(daformer) == sum(p.numel() for p in twice.attention.parameters()) == 530_707
    assert [key for key in light.state_dict() if not key.startswith("encoder.")] == [
        *(
            f"upscale.{i}.{kind}"
            for i, kind in ((0, "weight"), (1, "weight"), (1, "bias"), (3, "weight"), (4, "weight"), (4, "bias"))
        ),
        *("upscale.5.weight", "upscale.6.weight", "upscale.6.bias", "out.weight"),
    ]
    state = plus.state_dict()
    assert not any(key.startswith(("encoder.mask_token", "encoder.norm.")) for key in state)
    attention = "encoder.interactions.3.extra_extractors.1.attn."
    assert {key.removeprefix(attention) for key in state if key.startswith(attention)} == {
        f"{part}.{kind}"
        for part in ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
        for kind in ("weight", "bias")
    }
    assert state["encoder.interactions.0.injector.attn.value_proj.weight"].shape == (512, 1024)
    assert state["encoder.interactions.0.injector.attn.sampling_offsets.weight"].shape == (16 * 3 * 4 * 2, 1024)
    assert state["encoder.spm.conv4.0.weight"].shape == (256, 256, 3, 3) and state["upscale.up_conv3.weight"].shape == (
        256,
        128,
        2,
        2,
    )
    assert not any("extra_extractors" in key for key in state if "interactions.2" in key)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_a_function_of_the_seed_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (built(name, seed).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before), "the global generator moved"
    assert all(torch.equal(first[key], again[key]) for key in first) and all(v.isfinite().all() for v in first.values())
    moved = [key for key, value in first.items() if not torch.equal(value, other[key])]
    assert any("conv_seg.weight" in key or "out.weight" in key for key in moved) and len(moved) > len(first) / 5


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_gets_a_gradient_in_its_order(name: str) -> None:
    """A parameter that no output reaches would stop DistributedDataParallel, one left out of ``forward_order`` too."""
    network = built(name).train()
    outputs, features = network(images(), features=True)
    assert (
        outputs.main.shape[:2] == (2, CLASSES) and outputs.aux is None and features.shape[1] == network.feature_channels
    )
    (outputs.main.square().sum() + (0 if getattr(outputs, "detail", None) is None else outputs.detail.sum())).backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []
    order = list(network.forward_order())
    assert len({id(p) for p in order}) == len(order) == len(list(network.parameters()))


@pytest.mark.parametrize("name", NAMES)
def test_recomputation_changes_nothing(name: str) -> None:
    """Also where blocks are dropped: what is drawn is drawn once."""
    results = []
    for checkpointing in (False, True):
        network = built(name, drop_path=0.5, checkpointing=checkpointing).train()
        with stochastic.drawing(torch.tensor([4, 5]), torch.tensor([6])):
            out = network(images())
            # The backward comes after another forward with other draws.
        with stochastic.drawing(torch.tensor([8, 9]), torch.tensor([7])), torch.no_grad():
            network(images())
        out.main.square().sum().backward()
        results.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_forward(name: str) -> None:
    network = built(name)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = network(images()).main
    with torch.no_grad():
        whole = network(images()).main
    assert half.isfinite().all()
    assert ((half.float() - whole).norm() / whole.norm()).item() < 0.05


def test_positions_of_another_grid() -> None:
    """By the hub's factor (n + 0.1) / 37, which torch samples by: not the same as resizing to n."""
    network = DinoV2(VIT).eval()
    with torch.no_grad():
        network.pos_embed.normal_(generator=torch.Generator().manual_seed(1))
    stored = network.pos_embed[:, 1:].unflatten(1, (37, 37)).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(stored, scale_factor=(80.1 / 37, 40.1 / 37), mode="bicubic")
    got = network.position_embeddings(80, 40)
    torch.testing.assert_close(got[:, 1:].unflatten(1, (80, 40)).permute(0, 3, 1, 2), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(got[:, 0], network.pos_embed[:, 0])
    assert torch.equal(network.position_embeddings(37, 37), network.pos_embed)
    plain = torch.nn.functional.interpolate(stored, size=(80, 40), mode="bicubic")
    assert (plain - expected).abs().max() > 1e-3


def test_masked_patches() -> None:
    network = built("vfm_uda")
    x = images(2, 64, 64)
    assert network.patch_grid(1024, 1024) == (80, 80) and network.patch_grid(64, 64) == (5, 5)
    mask = torch.zeros(2, 5, 5, dtype=torch.bool)
    with torch.no_grad():
        torch.testing.assert_close(network(x, mask=mask).main, network(x).main)
        mask[:, 2:] = True
        blind = x.clone()
        blind[:, :, 45:] = 0  # nothing of a masked patch is seen
        network.encoder.mask_token.fill_(0.3)
        torch.testing.assert_close(network(blind, mask=mask).main, network(x, mask=mask).main)
        assert (network(x, mask=mask).main - network(x).main).abs().max() > 1e-3


def test_impossible_networks_and_images_are_refused() -> None:
    with pytest.raises(ValueError, match="64x100"):
        DinoV2(VIT)(torch.zeros(1, 3, 64, 100))
    with pytest.raises(ValueError, match="heads"):
        DinoV2(dinov2.Shape(10, 1, 3))
    with pytest.raises(ValueError, match="multiples of 4 blocks"):
        VfmUdaPlus(5, dinov2.Shape(64, 6, 4))
    for kind, shape in ((DaFormer, mit.SHAPES["b0"]), (VfmUda, VIT), (VfmUdaPlus, VIT)):
        with pytest.raises(ValueError, match="2 or more classes"), torch.device("meta"):
            kind(1, shape)


def depths(network: torch.nn.Module) -> dict[str, int | None]:
    """Of every parameter; None: the decoder's."""
    return {name: None if g.head else g.depth for g in network.parameter_groups() for name, _ in g.parameters}


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_is_in_one_group(name: str) -> None:
    network = built(name)
    grouped = [parameter for group in network.parameter_groups() for _, parameter in group.parameters]
    assert len({id(p) for p in grouped}) == len(grouped) == len(list(network.parameters()))
    named = dict(network.named_parameters())
    assert all(named[key] is p for group in network.parameter_groups() for key, p in group.parameters)


def test_rates_of_vfm_uda() -> None:
    """Golden check 8: base 5e-5, 8 images: 1.4142e-4 decoder, a tenth for the last block, 0.9 less for every block."""
    with torch.device("meta"):
        network = VfmUdaPlus(19, dinov2.SHAPES["large"])
    depth, base = depths(network), 5e-5 * math.sqrt(8)
    recipe = AdamW(base / 10, head_lr=10, layer_decay=0.9, no_decay=(), backend="foreach").build(network)
    rates = {id(p): group["lr"] for group in recipe.param_groups for p in group["params"]}
    named = dict(network.named_parameters())

    def rate(name: str) -> float:
        return rates[id(named[name])]

    assert (
        rate("out.weight")
        == rate("encoder.spm.fc1.weight")
        == rate("encoder.norm2.bias")
        == pytest.approx(1.4142e-4, rel=1e-4)
    )
    assert rate("encoder.blocks.23.attn.qkv.weight") == pytest.approx(1.4142e-5, rel=1e-4)
    assert rate("encoder.blocks.0.ls1.gamma") == pytest.approx(1.4142e-5 * 0.9**23, rel=1e-4)
    for name in ("patch_embed.proj.weight", "pos_embed", "cls_token"):
        assert rate(f"encoder.{name}") == pytest.approx(1.4142e-5 * 0.9**24, rel=1e-4)
    assert depth["encoder.blocks.20.norm1.weight"] == 3 and depth["encoder.level_embed"] is None
    assert depths(VfmUda(5, VIT))["encoder.norm.weight"] == 4, "with the stem, as published"
    assert {group["weight_decay"] for group in recipe.param_groups} == {0.01}


def test_depths_of_a_mix_transformer() -> None:
    depth = depths(built("daformer"))  # 1, 2, 1 and 1 blocks
    assert [depth[f"backbone.block{i}.0.norm1.weight"] for i in (1, 2, 3, 4)] == [4, 3, 1, 0]
    assert depth["backbone.block2.1.norm1.weight"] == 2 and depth["backbone.patch_embed1.proj.weight"] == 5
    assert depth["backbone.patch_embed3.norm.bias"] == 1 and depth["backbone.norm2.weight"] == 2
    assert depth["decode_head.conv_seg.bias"] is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("h", "w"), [(64, 128), (100, 190), (224, 224)])
def test_output_size(name: str, h: int, w: int) -> None:
    network = built(name)
    with torch.no_grad():
        said = network(images(1, h, w), features=True)
    assert said.outputs.main.shape[2:] == network.output_size((h, w))
    assert said.features.shape[1:] == (network.feature_channels, *network.feature_size((h, w)))
    assert network.describe() and network.normalisation.order == "rgb" and not network.multi_level


@pytest.mark.parametrize("size", [(8, 10), (13, 31), (3, 5), (1, 1)])
def test_resizing_by_products(size: tuple[int, int]) -> None:
    """As torch's, value and gradient: what CUDA takes in deterministic mode."""
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
    results = [by_products(x, size), torch.nn.functional.interpolate(x, size, mode="bilinear", align_corners=False)]
    grads = [torch.autograd.grad(out.square().sum(), x)[0] for out in results]
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*grads, rtol=1e-5, atol=1e-5)
    assert by_products(x.bfloat16(), size).dtype == torch.bfloat16
