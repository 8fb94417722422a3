"""Precision belongs to a pass: training, extraction and evaluation have their own; what would do nothing is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from esl_dist.config.load import load_config
from esl_dist.distributed.arithmetic import Arithmetic, resolve
from esl_dist.distributed.runtime import Runtime
from esl_dist.metrics.inference import Predictor
from esl_dist.models import DeepLabV2
from esl_dist.pipeline import start

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
Switches = tuple[bool, bool, bool, bool]


def switches() -> Switches:
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark


def runtime(device: torch.device, precision: str, deterministic: bool = True) -> Runtime:
    return Runtime(0, 1, 0, 1, device, precision, 1, 2, deterministic, 100)


def test_a_training_in_tf32_leaves_extraction_and_evaluation_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The switches are torch's own and are set without a GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    here = runtime(CUDA, "tf32")
    before = switches()
    with here.training.applied():
        assert switches() == (True, True, True, False)
        with here.fixed_forward():
            assert switches() == (False, False, True, False)
            assert torch.get_num_threads() == 2
        assert switches() == (True, True, True, False)
        with pytest.raises(RuntimeError), here.fixed_forward("auto"):
            assert switches() == (True, True, True, False)  # the training's, asked for
            raise RuntimeError
        assert switches() == (True, True, True, False)
    assert switches() == before
    with runtime(CUDA, "fp32").fixed_forward("tf32"):
        assert switches()[:2] == (True, True)
    assert switches() == before


def test_determinism_is_the_passes_own() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    with runtime(CPU, "fp32", deterministic=False).training.applied():
        assert not torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("key", ["run.precision", "extract.precision", "eval.precision"])
def test_a_value_that_would_do_nothing_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=f"{key}: tf32 exists on CUDA only; set {key}=fp32"):
        resolve("tf32", CPU, key)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "V100")
    with pytest.raises(ValueError, match=f"{key}: V100 has no tf32"):
        resolve("tf32", CUDA, key)
    assert resolve("auto", CPU, key) == "fp32" and resolve("auto", CPU, key, auto="bf16") == "bf16"


@pytest.mark.parametrize("key", ["extract.precision", "eval.precision"])
def test_a_run_refuses_it_before_anything_is_made(key: str, tmp_path: Path) -> None:
    config = load_config("smoke.yaml", [f"{key}=tf32", f"data.root={tmp_path / 'data'}"])
    with pytest.raises(ValueError, match=f"{key}: tf32"):
        start(config, runtime(CPU, "fp32"), tmp_path / "run", None, None)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_each_predictor_computes_as_it_was_asked() -> None:
    torch.manual_seed(0)
    network = DeepLabV2(5, layers=(1, 1, 1, 1), width=8).eval()
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    here = runtime(CPU, "bf16")
    exact, half, trained = (Predictor(network, here, precision)(image) for precision in ("fp32", "bf16", "auto"))
    assert torch.equal(exact, Predictor(network, runtime(CPU, "fp32"))(image))
    assert not torch.equal(exact, half) and torch.equal(half, trained)
    assert half.dtype == torch.float32


def test_autocast_is_for_the_half_types_alone() -> None:
    for precision, kind in (("fp32", torch.float32), ("tf32", torch.float32), ("bf16", torch.bfloat16)):
        with Arithmetic(CPU, precision).autocast():
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == kind
