"""Attention in a deterministic run: torch's mode is strict around its kernel alone, there and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from esl_dist.models import attention as module
from esl_dist.models.attention import attention
from tests.models.transformers.common import built, images


class Modes(TorchDispatchMode):
    """Whether torch's deterministic mode was strict in every operation, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        strict = not torch.is_deterministic_algorithms_warn_only_enabled()
        self.seen.append((func.overloadpacket.__name__, strict))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    monkeypatch.setattr(module, "_is_to_repeat", lambda q: True)
    yield


def tensors() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 2, 12, 8, generator=generator, requires_grad=True) for _ in range(3)]


def test_strict_around_the_kernel_and_nowhere_else(as_on_cuda: None) -> None:
    q, k, v = tensors()
    with Modes() as modes:
        attention(q * 2, k, v).square().sum().backward()
    kernels = [(name, strict) for name, strict in modes.seen if name.startswith("_scaled_dot_product")]
    assert len(kernels) == 2 and all(strict for _, strict in kernels), "the kernel and its backward"
    others = [name for name, strict in modes.seen if strict and not name.startswith("_scaled_dot_product")]
    assert set(others) <= {"detach", "transpose"}, others
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_the_numbers_are_torchs(as_on_cuda: None) -> None:
    found = []
    for function in (attention, F.scaled_dot_product_attention):
        q, k, v = tensors()
        out = function(q, k, v)
        out.square().sum().backward()
        found.append([out, q.grad, k.grad, v.grad])
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(*found, strict=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["daformer", "vfm_uda"])
def test_in_a_network_every_attention_is(name: str, checkpointing: bool, as_on_cuda: None) -> None:
    """Also where activations are computed again in the backward."""
    network = built(name, checkpointing=checkpointing).train()
    with Modes() as modes:
        network(images(1)).main.sum().backward()
    kernels = [strict for name, strict in modes.seen if name.startswith("_scaled_dot_product")]
    assert len(kernels) >= 4 and all(kernels)
    assert any(not strict for _, strict in modes.seen[-50:]) and torch.is_deterministic_algorithms_warn_only_enabled()


def test_what_is_behind_the_kernel_is_looked_through() -> None:
    q, k, v = tensors()
    out = F.scaled_dot_product_attention(q, k, v)
    assert "ScaledDotProduct" in module._fused(out.transpose(1, 2)[..., :4].grad_fn).name()
    assert module._fused((q @ k.transpose(-1, -2)).softmax(-1).grad_fn) is None
    assert module._fused(None) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_on_a_gpu_gradients_have_the_same_bits_twice(dtype: torch.dtype) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(2, 4, 4096, 64, generator=generator).to("cuda", dtype) for _ in range(3)]
    runs = []
    for _ in range(3):
        q, k, v = (tensor.clone().requires_grad_() for tensor in made)
        attention(q, k, v).square().sum().backward()
        runs.append([q.grad, k.grad, v.grad])
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0], strict=True))  # type: ignore[arg-type]
