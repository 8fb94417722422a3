"""The heads' shifted sum of taps as a gather: the values of ``fold``, output and gradients."""

from __future__ import annotations

import pytest
import torch

from tests.kernels import taps_cases
from tests.kernels.interpreted import in_interpreter


def check(found: dict[str, dict[str, float]], output: float, bias: float) -> None:
    assert len(found) == 3
    for case, differences in found.items():
        assert differences["taps"] == 0.0, case  # moved, not computed
        assert differences["output"] <= output and differences["bias"] <= bias, (case, differences)


def test_in_the_interpreter_it_adds_in_the_order_of_fold() -> None:
    check(in_interpreter("tests.kernels.taps_cases"), 0.0, 1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_compiled_on_the_gpu() -> None:
    check(taps_cases.cases("cuda"), 1e-5, 1e-4)
