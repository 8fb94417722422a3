"""``model.bn=sync`` in the kernels: two ranks are one process with all images, at one collective a direction."""

from __future__ import annotations

import pytest
import torch

from esl_dist.distributed.batch_norm import CudaBatchNorm, synchronise
from esl_dist.models.batch_norm import OverRanks
from tests.kernels import norm_ranks
from tests.ranks import run_ranks


def test_two_ranks_in_the_interpreter_are_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    first, second = run_ranks(2, "tests.kernels.norm_ranks:of_rank")
    wide = tuple(tensor.double() for tensor in norm_ranks.inputs())
    exact = norm_ranks.results(norm_ranks.layer().double(), wide)  # type: ignore[arg-type]
    for name, value in exact.items():
        whole = name in ("gain", "shift") or "running" in name or "batches" in name
        found = torch.tensor(first[name] if whole else first[name] + second[name], dtype=torch.float64)
        expected = value.double().flatten()
        assert float((found - expected).abs().max() / expected.abs().max().clamp_min(1)) < 2e-6, name
        assert not whole or first[name] == second[name], "every rank has the same bits"


def test_on_cuda_torchs_own_takes_the_kernels_place_when_they_are_off() -> None:
    network = synchronise(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), norm_ranks.layer()), cuda=True)
    assert type(network[1]) is CudaBatchNorm and isinstance(network[1], torch.nn.SyncBatchNorm)
    assert isinstance(network[1], OverRanks) and not isinstance(torch.nn.BatchNorm2d(3), OverRanks)
