"""Batch norm, residual and ReLU fused: output, gradients and running statistics against float64."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from esl_dist import kernels
from esl_dist.models.batch_norm import norm_add_relu, norm_relu
from tests.kernels import norm_cases
from tests.kernels.interpreted import in_interpreter


def check(found: dict[str, dict[str, float]]) -> None:
    assert len(found) == 24
    for case, differences in found.items():
        bound = 2**-6 if case.endswith("bf16") else 2e-6  # twice cut off, by the interpreter
        exactly = {name: differences.pop(name) for name in ("batches", "again")}
        assert set(exactly.values()) == {0.0}, (case, exactly)
        assert max(differences.values()) < bound, (case, differences)


def test_in_the_interpreter() -> None:
    check(in_interpreter("tests.kernels.norm_cases"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_compiled_on_the_gpu() -> None:
    check(norm_cases.cases("cuda"))


def test_switched_off_it_is_torch_to_the_bit() -> None:
    norm, x, shortcut = nn.BatchNorm2d(4), torch.randn(2, 4, 5, 6), torch.randn(2, 4, 5, 6)
    with kernels.using({"norm"}):  # on a CPU nothing is compiled
        out, twin = norm_add_relu(norm, x, shortcut)
    assert twin is out and torch.equal(out, torch.relu(nn.BatchNorm2d(4)(x) + shortcut))
    assert torch.equal(norm_relu(nn.BatchNorm2d(4), x), torch.relu(nn.BatchNorm2d(4)(x)))


def test_kernels_without_triton_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "available", lambda: False)
    with pytest.raises(ValueError, match=r"run\.kernels: needs the package triton"):
        kernels.choose(["norm"])
    kernels.choose([])


def test_auto_is_all_of_them_in_captured_steps_alone() -> None:
    assert kernels.of_steps(("auto",), captured=False) == frozenset()
    assert kernels.of_steps(("auto",), captured=True) == (frozenset(kernels.NAMES) if kernels.available() else set())
    assert kernels.of_steps(("norm", "heads"), captured=False) == {"norm", "heads"} and not kernels.of_steps((), True)
