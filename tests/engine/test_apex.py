"""apex as the optimiser back-end: which way it is missing, from packages made for each case; on a GPU with apex, parity
with torch.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from esl_dist.config.load import load_config
from esl_dist.config.schema import OptimConfig
from esl_dist.engine import apex
from esl_dist.methods import stages
from esl_dist.methods.identity import difference, refuse
from esl_dist.methods.networks import segmenter_recipe
from esl_dist.models import DeepLabV2, Discriminator

ROOT = Path(__file__).resolve().parents[2]

# Apex's interface over torch's arithmetic: no argument to zero_grad, AdamW unless told otherwise.
OPTIMIZERS = """
import torch

class FusedSGD(torch.optim.SGD):
    def zero_grad(self):
        super().zero_grad()

def FusedAdam(params, lr, betas, adam_w_mode=True):
    kind = torch.optim.AdamW if adam_w_mode else torch.optim.Adam
    made = kind(params, lr=lr, betas=betas)
    made.zero_grad = lambda: kind.zero_grad(made)
    return made
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages, first on the path; what was imported from it is forgotten afterwards."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("apex", "amp_C")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(
        sys, "path", [str(tmp_path), *(entry for entry in sys.path if not Path(entry, "apex").exists())]
    )
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("apex", "amp_C"):
            del sys.modules[name]


def install(site: Path, optimizers: str | None = OPTIMIZERS, kernels: str | None = "", package: str = "") -> None:
    (site / "apex").mkdir()
    (site / "apex" / "__init__.py").write_text(package)
    if optimizers is not None:
        (site / "apex" / "optimizers").mkdir()
        (site / "apex" / "optimizers" / "__init__.py").write_text(optimizers)
    if kernels is not None:
        (site / "amp_C.py").write_text(kernels)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU of which only the probe's questions are asked."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(apex, "_step_on_the_gpu", lambda: None)
    monkeypatch.setattr(apex, "_architecture", lambda: "9.0")


def test_not_installed(site: Path) -> None:
    assert apex.unusable("auto").startswith("apex is not installed")


def test_the_namesake_is_recognised_without_being_run(site: Path) -> None:
    install(site, optimizers=None, kernels=None, package="raise SystemExit('the namesake was imported')")
    assert "PyPI's package of that name" in apex.unusable("auto")


def test_built_without_kernels(site: Path) -> None:
    install(site, kernels=None)
    assert "no module amp_C" in apex.unusable("auto") and "APEX_CUDA_EXT=1" in apex.unusable("auto")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_gpu(site: Path) -> None:
    install(site)
    assert "torch sees no GPU here" in apex.unusable("auto")


def test_a_cpu_that_was_asked_for(site: Path, gpu: None) -> None:
    install(site)
    assert "run.device is cpu" in apex.unusable("cpu")


def test_built_for_another_torch(site: Path, gpu: None) -> None:
    install(site, kernels="raise ImportError('amp_C.so: undefined symbol: _ZN3c106detail\\nmore')")
    problem = apex.unusable("auto")
    assert (
        f"does not fit this torch {torch.__version__}" in problem
        and "undefined symbol: _ZN3c106detail)" in problem
        and "\n" not in problem
    )


def test_built_for_another_gpu(site: Path, gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nCompile with …")

    install(site)
    monkeypatch.setattr(apex, "_step_on_the_gpu", fail)
    problem = apex.unusable("auto")
    assert "no kernel image" in problem and "TORCH_CUDA_ARCH_LIST=9.0" in problem and "\n" not in problem


def test_usable(site: Path, gpu: None) -> None:
    install(site)
    assert apex.unusable("auto") == ""
    apex.require("auto")


def test_the_program_ends_with_code_2_and_one_line_before_any_rank_is_joined(site: Path, tmp_path: Path) -> None:
    install(site, optimizers=None, kernels=None)
    # RANK without a rendezvous: whoever tried to join a group here would fail otherwise, or wait.
    environment = {
        **os.environ,
        "PYTHONPATH": f"{site}:{ROOT}",
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "LOCAL_WORLD_SIZE": "2",
    }
    command = [
        sys.executable,
        "-m",
        "esl_dist.train",
        "--config",
        "smoke.yaml",
        "optim.backend=apex",
        f"run.dir={tmp_path}/run",
    ]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2
    assert (
        ended.stderr.startswith("esl_dist: error: optim.backend: the apex that is installed is PyPI's")
        and ended.stderr.count("\n") == 1
    )
    assert "set optim.backend=auto" in ended.stderr and not (tmp_path / "run").exists()


def test_auto_never_takes_apex(site: Path, gpu: None) -> None:
    install(site, optimizers="raise ImportError('auto looked at apex')")
    network = nn.ModuleDict(
        {"segmenter": DeepLabV2(5, layers=(1, 1, 1, 1), width=4), "d_main": Discriminator(5, ndf=4)}
    )
    made = segmenter_recipe(OptimConfig(), 1, ["d_main"]).build(network)
    assert [type(optimizer) for optimizer in made.values()] == [torch.optim.SGD, torch.optim.Adam]


def gradients(network: nn.Module, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.device)


def parity(device: str) -> float:
    """Largest difference of a weight after ten steps of SGD and Adam with both back-ends, the rates falling."""
    results = []
    for backend in ("foreach", "apex"):
        torch.manual_seed(0)
        networks = {"segmenter": DeepLabV2(5, layers=(1, 1, 1, 1), width=8), "d_main": Discriminator(5, ndf=8)}
        for network in networks.values():
            network.to(device, memory_format=torch.channels_last)
        optim = OptimConfig(lr=0.01, discriminator_lr=0.001, backend=backend)
        optimizers = segmenter_recipe(optim, 1, ["d_main"]).build(networks)
        for step in range(10):
            for name, network in networks.items():
                optimizers[name].zero_grad()
                gradients(network, step)
                optimizers[name].param_groups[0]["lr"] *= 0.9
                optimizers[name].step()
        results.append(
            torch.cat(
                [p.detach().double().flatten().cpu() for network in networks.values() for p in network.parameters()]
            )
        )
    return float((results[0] - results[1]).abs().max())


def test_the_right_optimisers_are_asked_for(site: Path, gpu: None) -> None:
    """With torch's arithmetic behind apex's names: AdamW in place of Adam, or another rate of a group, would show."""
    install(site)
    assert parity("cpu") < 1e-6


def test_apex_equals_torch_on_a_gpu() -> None:
    problem = apex.unusable("auto")
    if problem:
        pytest.skip(problem)
    assert parity("cuda") < 1e-5


def test_a_stage_begun_with_torch_is_not_gone_on_with_by_apex(tmp_path: Path) -> None:
    """Adam's state in apex has another form (one step count per group): refused before anything is loaded, by the
    option's name.
    """
    torchs, apexs = (load_config("smoke.yaml", [f"optim.backend={backend}"]) for backend in ("auto", "apex"))
    stage = stages(torchs)[0]
    recorded = stage.identity(torchs, "fp32", 1, {})
    assert not difference(recorded, stage.identity(torchs, "fp32", 1, {}))
    with pytest.raises(
        ValueError, match=r"was made with optim\.backend=auto, now it is apex; choose another run\.name"
    ):
        refuse(tmp_path, difference(recorded, stage.identity(apexs, "fp32", 1, {})))
