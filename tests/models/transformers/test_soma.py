"""SoMA: the same function before training, one matrix again after it, and only the least used directions learn (golden
check 10).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from esl_dist.models import dinov2, weights
from esl_dist.models.dinov2 import DinoV2
from esl_dist.models.soma import LowRank, adapt, merge
from esl_dist.models.vfm import VfmUda
from tests.models.transformers.common import CLASSES, VIT, built, images


def test_trained_parameters_of_vit_large() -> None:
    """16 blocks of rank-16 pairs for q, k, v, proj, fc1 and fc2, and these layers' biases: 4.9 million."""
    with torch.device("meta"):
        network = adapt(DinoV2(dinov2.SHAPES["large"]))
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    pairs = 16 * 16 * (3 * (1024 + 1024) + (1024 + 1024) + 2 * (1024 + 4096))
    assert sum(p.numel() for p in trained.values()) == pairs + 16 * (3 * 1024 + 1024 + 4096 + 1024) == 4_866_048
    assert all(int(name.split(".")[1]) >= 8 for name in trained)


@pytest.fixture
def adapted() -> nn.Module:
    network = built("vfm_uda")
    adapt(network.encoder, rank=4, first_block=1)
    return network


def test_a_plain_file_loads_into_an_adapted_network(tmp_path: Path) -> None:
    """DINOv2's weights, or a network trained whole; the function is the file's."""
    plain = built("vfm_uda", seed=8)
    with torch.device("meta"):
        empty = VfmUda(CLASSES, VIT, grid=5, soma=(4, 1))
    network = empty.to_empty(device="cpu").eval()
    network.initialise(3, "random")
    assert all(value.isfinite().all() for value in network.state_dict().values())
    torch.save({f"network.{k}": v for k, v in plain.state_dict().items()}, tmp_path / "whole.ckpt")
    weights.load(tmp_path / "whole.ckpt", network)
    with torch.no_grad():
        torch.testing.assert_close(network(images()).main, plain(images()).main, rtol=1e-5, atol=1e-5)
    part, file = plain.encoder.state_dict(), tmp_path / "vit.pth"
    torch.save(part, file)
    assert weights.load(file, network).layout == "dinov2"
    part["blocks.2.attn.qkv.weight"] = torch.zeros(64, 64)
    torch.save(part, file)
    with pytest.raises(ValueError, match=r"blocks\.2\.attn\.qkv has shape .*another size"):
        weights.load(file, network)


def test_only_what_learns_is_in_the_groups(adapted: nn.Module) -> None:
    names = [name for group in adapted.parameter_groups() for name, _ in group.parameters]
    assert {name for name, p in adapted.named_parameters() if p.requires_grad} == set(names)
    assert not any("residual" in name or "blocks.0" in name for name in names)
    assert "low-rank parameters" in adapted.describe()


def test_function_is_unchanged_at_the_start(adapted: nn.Module) -> None:
    with torch.no_grad():
        torch.testing.assert_close(adapted(images()).main, built("vfm_uda")(images()).main, rtol=1e-5, atol=1e-5)


def test_merged_after_training(adapted: nn.Module) -> None:
    adapted.train()
    optimiser = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    frozen = {name: p.clone() for name, p in adapted.named_parameters() if not p.requires_grad}
    for _ in range(3):
        optimiser.zero_grad()
        adapted(images()).main.square().sum().backward()
        optimiser.step()
    assert all(torch.equal(p, frozen[name]) for name, p in adapted.named_parameters() if name in frozen)
    assert {
        "encoder.blocks.0.attn.qkv.weight",
        "encoder.pos_embed",
        "encoder.blocks.1.attn.qkv.residual",
    } <= frozen.keys()
    adapted.eval()
    with torch.no_grad():
        trained, before = adapted(images()).main, built("vfm_uda")(images()).main
        assert (trained - before).abs().max() > 1e-2, "something was learned"
        torch.testing.assert_close(merge(adapted)(images()).main, trained, rtol=1e-5, atol=1e-5)
    plain = built("vfm_uda")
    assert adapted.state_dict().keys() == plain.state_dict().keys(), "an exported network is an ordinary one"


def test_the_smallest_triplets_learn_each_matrix_by_itself() -> None:
    layer = nn.Linear(12, 24)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(24, 12, generator=torch.Generator().manual_seed(3)))
    split = LowRank.split(layer, rank=3, parts=2)
    for part, (b, a) in enumerate(zip(split.b, split.a, strict=True)):
        own = layer.weight[12 * part : 12 * (part + 1)]
        values = torch.linalg.svdvals(own)
        torch.testing.assert_close(torch.linalg.svdvals(b @ a)[:3], values[-3:], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            torch.linalg.svdvals(split.residual[12 * part : 12 * (part + 1)])[:9], values[:9], rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(b.norm(dim=0), a.norm(dim=1), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_adapted_is_refused() -> None:
    with torch.device("meta"):
        with pytest.raises(ValueError, match="soma_first=12"):
            adapt(DinoV2(dinov2.SHAPES["base"]), first_block=12)
        with pytest.raises(ValueError, match="gated"):
            adapt(DinoV2(dinov2.SHAPES["giant"]))
        with pytest.raises(ValueError, match="rank 500"):
            adapt(DinoV2(dinov2.SHAPES["small"]), rank=500)
