"""Graphs of the transformer networks say what the networks say; SoMA's low-rank layers are one matrix each in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import esl_dist
from esl_dist.config.load import load_config
from esl_dist.config.schema import Config
from esl_dist.entries.export import main
from esl_dist.models.soma import LowRank
from esl_dist.prediction.export import sample
from tests.prediction.test_python import BESIDE, saved

MIT = ["model.name=daformer", "model.daformer.encoder=tiny", "model.daformer.channels=8"]
VIT = ["model.name=dinov2", "model.dinov2.encoder=tiny"]
FAMILIES = {
    "daformer": MIT,
    "hrda": [*MIT, "model.hrda=true"],
    "vfm_uda": VIT,
    "vfm_uda_plus": [*VIT, "model.dinov2.decoder=pyramid"],
    "soma": [*VIT, "model.dinov2.soma_rank=2", "model.dinov2.soma_first=1"],
}
SIZE = (96, 64)


def small(name: str) -> Config:
    return load_config("smoke.yaml", [*FAMILIES[name], *BESIDE])


def exported(name: str, suffix: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, Path, str]:
    """The checkpoint, its graph, and what was said."""
    path, out = saved(small(name), folder / "anywhere"), folder / f"network.{suffix}"
    assert main(["--checkpoint", str(path), "--out", str(out)]) == 0
    return path, out, capsys.readouterr().out


@pytest.mark.parametrize("name", ["soma", *(pytest.param(n, marks=pytest.mark.slow) for n in FAMILIES if n != "soma")])
def test_torch_export(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out, said = exported(name, "pt2", tmp_path, capsys)
    assert "100.0000 % of pixels have the same label" in said
    program = torch.export.load(out)
    image, model = sample(SIZE, 3), esl_dist.load(path, device="cpu")
    with torch.no_grad():
        _, logits = program.module()(image)
        expected = model.predictor(image)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    low_rank = any(isinstance(module, LowRank) for module in model.network.modules())
    assert low_rank == (name == "soma") and not any(
        key.endswith((".a", ".b", ".residual")) for key in program.state_dict
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_onnx(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    path, out, said = exported(name, "onnx", tmp_path, capsys)
    assert "100.0000 % of pixels have the same label" in said
    session = runtime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    image = sample(SIZE, 4)
    _, logits = session.run(["labels", "logits"], {"images": image.numpy()})
    expected = esl_dist.load(path, device="cpu").predictor(image)
    torch.testing.assert_close(torch.from_numpy(logits), expected, atol=1e-4, rtol=1e-4)
