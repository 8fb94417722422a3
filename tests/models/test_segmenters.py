"""What every network behind the seam keeps: one contract, run over the whole dictionary."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from esl_dist.config.model import DeepLabV2Config, EfficientNetConfig
from esl_dist.config.schema import DataConfig, ModelConfig
from esl_dist.config.transformers import DaFormerConfig, DinoV2Config
from esl_dist.methods.passes import heads_of
from esl_dist.models import SEGMENTERS, build_segmenter, empty_segmenter, sketch_segmenter
from esl_dist.models.hrda import MultiResolution
from esl_dist.models.segmenter import Featured, Outputs, Segmenter

CLASSES = 5
KINDS = {
    "deeplabv2": ModelConfig(deeplabv2=DeepLabV2Config(layers=(1, 1, 1, 1), width=8, init="kaiming")),
    "efficientnet": ModelConfig("efficientnet", efficientnet=EfficientNetConfig(init="kaiming", decoder=16)),
    "daformer": ModelConfig("daformer", daformer=DaFormerConfig("tiny", channels=16)),
    "daformer at two resolutions": ModelConfig("daformer", daformer=DaFormerConfig("tiny", channels=16), hrda=True),
    "dinov2": ModelConfig("dinov2", dinov2=DinoV2Config("tiny")),
    "dinov2 with an adapter": ModelConfig("dinov2", dinov2=DinoV2Config("tiny", "pyramid")),
    "dinov2 with low ranks": ModelConfig("dinov2", dinov2=DinoV2Config("tiny", soma_rank=2, soma_first=1)),
}
"""Small ones of every network; a new network that is not here fails the first test."""
TWO_HEADS = ("deeplabv2", "efficientnet")


def other(kind: str, **options: object) -> ModelConfig:
    """The kind with other options of its network."""
    config = KINDS[kind]
    return dataclasses.replace(config, **{config.name: dataclasses.replace(config.options, **options)})  # type: ignore[arg-type]


def test_every_network_is_held_to_the_contract() -> None:
    assert {config.name for config in KINDS.values()} == SEGMENTERS.keys()
    names = {
        field.name for field in dataclasses.fields(ModelConfig) if field.default_factory is not dataclasses.MISSING
    }
    assert names == SEGMENTERS.keys(), "a network needs its options in ModelConfig and its builder in SEGMENTERS"


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(kind: str) -> Segmenter:
    return build_segmenter(KINDS[kind], CLASSES, seed=3)


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (72, 104)])
def test_sizes_are_known_before_a_forward(network: Segmenter, size: tuple[int, int]) -> None:
    network.eval()
    with torch.no_grad():
        found = network(torch.randn(2, 3, *size), features=True)
        plain = network(torch.randn(2, 3, *size))
    assert isinstance(found, Featured) and isinstance(plain, Outputs | MultiResolution)
    grid = network.output_size(size)
    assert found.outputs.main.shape == (2, CLASSES, *grid) == plain.main.shape
    assert found.features.shape == (2, network.feature_channels, *network.feature_size(size))
    assert (found.outputs.aux is not None) == network.multi_level
    grid = network.output_size((448, 448))  # a multiple of whatever a network resizes its images to
    assert all(abs(cells * network.output_stride / 448 - 1) < 0.15 for cells in grid)


@pytest.mark.parametrize("kind", TWO_HEADS)
def test_one_head_or_two(kind: str, network: Segmenter) -> None:
    single = build_segmenter(other(kind, multi_level=False), CLASSES, seed=3).eval()
    assert single(torch.randn(1, 3, 64, 64)).aux is None and not single.aux_parameters()
    assert network.aux_parameters()


def test_groups_hold_every_trainable_parameter_once(network: Segmenter) -> None:
    groups = network.parameter_groups()
    named = dict(network.named_parameters())
    listed = [name for group in groups for name, _ in group.parameters]
    assert sorted(listed) == sorted(name for name, p in named.items() if p.requires_grad)
    assert all(named[name] is parameter for group in groups for name, parameter in group.parameters)
    assert any(group.head for group in groups) and any(not group.head for group in groups)
    assert all(not group.multiplicity or len(group.multiplicity) == len(group.parameters) for group in groups)


def test_forward_order_holds_every_parameter_once(network: Segmenter) -> None:
    assert sorted(map(id, network.forward_order())) == sorted(map(id, network.parameters()))


def test_both_heads_reach_every_trainable_parameter(network: Segmenter) -> None:
    outputs = network(torch.randn(2, 3, 64, 64))
    sum(head.sum() for head in heads_of(outputs)).backward()
    missed = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert not missed


def test_a_frozen_aux_head_is_all_that_the_main_loss_misses(network: Segmenter) -> None:
    for parameter in network.aux_parameters():
        parameter.requires_grad_(False)
    outputs = network(torch.randn(2, 3, 64, 64))
    sum(head.sum() for head in heads_of(outputs._replace(aux=None))).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_weights_are_a_function_of_the_seed_alone(kind: str, network: Segmenter) -> None:
    before = torch.random.get_rng_state()
    torch.manual_seed(99)
    here = torch.random.get_rng_state()
    again, apart = (build_segmenter(KINDS[kind], CLASSES, seed).state_dict() for seed in (3, 4))
    assert torch.equal(torch.random.get_rng_state(), here), "the global generator moved"
    torch.random.set_rng_state(before)
    first = network.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], apart[key]) for key in first)
    assert all(value.isfinite().all() for value in first.values())


def test_frozen_statistics_stay_frozen_in_training(network: Segmenter) -> None:
    network.freeze_statistics().train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.randn(2, 3, 64, 64))
    assert network.training and all(torch.equal(before[name], buffer) for name, buffer in network.named_buffers())
    network.freeze_statistics(False).train()
    assert all(norm.training for norm in network.norms())


def test_an_empty_network_takes_any_state_and_a_sketch_takes_no_memory(kind: str, network: Segmenter) -> None:
    empty = empty_segmenter(KINDS[kind], CLASSES)
    empty.load_state_dict(network.state_dict())
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(empty.eval()(image).main, network.eval()(image).main)
    sketch = sketch_segmenter(KINDS[kind], CLASSES)
    assert all(p.is_meta for p in sketch.parameters())
    assert "\n" not in sketch.describe() and len(sketch.describe()) > 10


def test_options_of_the_data_take_the_place_of_the_own_normalisation(kind: str, network: Segmenter) -> None:
    own = sketch_segmenter(KINDS[kind], CLASSES, DataConfig()).normalisation
    assert own == network.normalisation
    given = DataConfig(mean=(1.0, 2.0, 3.0), deviation=(4.0, 5.0, 6.0))
    found = sketch_segmenter(KINDS[kind], CLASSES, given).normalisation
    assert found.order == own.order and found.in_bgr().mean == (1, 2, 3) and found.in_bgr().deviation == (4, 5, 6)
    assert sketch_segmenter(KINDS[kind], CLASSES, DataConfig(scale=64.0)).normalisation.deviation == (64, 64, 64)


def test_a_network_says_which_file_is_not_its_own(network: Segmenter) -> None:
    assert isinstance(network, nn.Module)
    assert network.adopt(network.state_dict()).keys() == network.state_dict().keys()


def test_a_lineages_normalisation_is_for_its_own_network_alone() -> None:
    crst = sketch_segmenter(dataclasses.replace(KINDS["deeplabv2"], layout="crst"), CLASSES).normalisation
    assert crst.order == "bgr" and crst.deviation == pytest.approx((57.375, 57.12, 58.395))
    for layout in ("crst", "resnet101"):
        found = sketch_segmenter(dataclasses.replace(KINDS["efficientnet"], layout=layout), CLASSES).normalisation
        assert found == sketch_segmenter(KINDS["efficientnet"], CLASSES).normalisation
