"""Upsampling, softmax and cross-entropy fused: values and gradients against float64."""

from __future__ import annotations

import pytest
import torch

from tests.kernels import losses_cases
from tests.kernels.interpreted import in_interpreter


def check(found: dict[str, dict[str, float]]) -> None:
    assert len(found) == 12
    for case, differences in found.items():
        assert differences.pop("again") == 0.0, case
        assert max(differences.values()) < 2e-6, (case, differences)


def test_in_the_interpreter() -> None:
    check(in_interpreter("tests.kernels.losses_cases"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_compiled_on_the_gpu() -> None:
    check(losses_cases.cases("cuda"))
