"""DINOv2 and MiT against the ``transformers`` library (tried with 4.57.1 and 5.24.0), where it is installed: the same
function of the same weights.

The library's weights come in through the loaders, so this also shows that its names are understood.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from esl_dist.models import dinov2, mit
from esl_dist.models.dinov2 import DinoV2
from esl_dist.models.mit import MixTransformer
from esl_dist.models.vit import Shape
from esl_dist.models.weights.encoders import DINOV2, MIT, recognise

hub = pytest.importorskip("transformers", reason="transformers, an oracle, is not installed")


def filled(network: nn.Module) -> nn.Module:
    """Values under which every part matters: positions, gains and tokens are not left at zero or one."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1 + (parameter.dim() == 1) * 0.5)
    return network.double().eval()


def images(h: int, w: int) -> Tensor:
    return torch.randn(2, 3, h, w, dtype=torch.float64, generator=torch.Generator().manual_seed(h * w))


def dinov2_oracle(shape: Shape, registers: int, grid: int) -> nn.Module:
    options = {
        "hidden_size": shape.dim,
        "num_hidden_layers": shape.depth,
        "num_attention_heads": shape.heads,
        "use_swiglu_ffn": shape.gated,
        "patch_size": 14,
        "image_size": 14 * grid,
    }
    if registers:
        return hub.Dinov2WithRegistersModel(hub.Dinov2WithRegistersConfig(num_register_tokens=registers, **options))
    return hub.Dinov2Model(hub.Dinov2Config(**options))


def mit_oracle(shape: mit.Shape) -> nn.Module:
    options = {
        "hidden_sizes": list(shape.channels),
        "depths": list(shape.depths),
        "num_attention_heads": list(mit.HEADS),
    }
    return hub.SegformerModel(hub.SegformerConfig(**options))


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize(("registers", "positions"), [(0, "plain"), (4, "antialiased")])
@pytest.mark.parametrize(("h", "w"), [(70, 70), (98, 42), (126, 140)])
def test_dinov2(gated: bool, registers: int, positions: dinov2.Positions, h: int, w: int) -> None:
    """On the stored grid, on others, and on oblong ones."""
    shape = Shape(48, 3, 4, gated)
    oracle = filled(dinov2_oracle(shape, registers, grid=5))
    found = recognise(DINOV2, oracle.state_dict())
    assert found is not None and found[0].name.startswith("transformers") and not found[2]
    network = DinoV2(shape, registers, positions, grid=5).double().eval()
    network.load_state_dict(found[1])
    with torch.no_grad():
        expected = oracle(images(h, w), output_hidden_states=True).last_hidden_state
        # Positions are resized in float32 by both.
        torch.testing.assert_close(network(images(h, w)), expected, rtol=1e-5, atol=1e-5)


def test_dinov2_masks_patches() -> None:
    oracle = filled(dinov2_oracle(Shape(48, 2, 4), 0, grid=5))
    found = recognise(DINOV2, oracle.state_dict())
    assert found is not None
    network = DinoV2(Shape(48, 2, 4), grid=5).double().eval()
    network.load_state_dict(found[1])
    mask = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(1)) < 0.7
    with torch.no_grad():
        expected = oracle(images(70, 70), bool_masked_pos=mask.flatten(1)).last_hidden_state
        torch.testing.assert_close(network(images(70, 70), mask), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("h", "w"), [(64, 96), (65, 99), (97, 70)])
def test_mit(h: int, w: int) -> None:
    """Also of sizes that no stage divides."""
    shape = mit.Shape((16, 32, 40, 64), (1, 2, 1, 1))
    oracle = filled(mit_oracle(shape))
    for name, module in oracle.named_modules():
        if isinstance(module, nn.LayerNorm):  # the library has torch's epsilon everywhere, the authors' encoder has not
            outside = "patch_embeddings" in name or ".attention" in name
            module.eps = 1e-5 if outside else 1e-6
    found = recognise(MIT, oracle.state_dict())
    assert found is not None and found[0].name.startswith("transformers")
    network = MixTransformer(shape).double().eval()
    network.load_state_dict(found[1])
    with torch.no_grad():
        expected = oracle(images(h, w), output_hidden_states=True).hidden_states
        for ours, theirs in zip(network(images(h, w)), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", dinov2.SHAPES)
@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_has_the_librarys_sizes(size: str, registers: int) -> None:
    with torch.device("meta"):
        network, oracle = (
            DinoV2(dinov2.SHAPES[size], registers),
            dinov2_oracle(dinov2.SHAPES[size], registers, dinov2.GRID),
        )
    found = recognise(DINOV2, oracle.state_dict())
    assert found is not None
    assert {k: v.shape for k, v in found[1].items()} == {k: v.shape for k, v in network.state_dict().items()}


@pytest.mark.parametrize("size", mit.SHAPES)
def test_mit_has_the_librarys_sizes(size: str) -> None:
    with torch.device("meta"):
        network, oracle = MixTransformer(mit.SHAPES[size]), mit_oracle(mit.SHAPES[size])
    found = recognise(MIT, oracle.state_dict())
    assert found is not None
    assert {k: v.shape for k, v in found[1].items()} == {k: v.shape for k, v in network.state_dict().items()}
