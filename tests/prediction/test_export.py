"""A graph says what the network says, carries what its numbers mean, and is not written where it does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import esl_dist
from esl_dist.entries.export import main
from esl_dist.models.card import Card
from esl_dist.prediction import export as exporting
from esl_dist.prediction.export import METADATA, Graph, export, sample
from tests.prediction.test_python import saved, small

slow = pytest.mark.slow


def test_onnx_of_any_size_on_onnxruntime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra export")
    path = saved(small("deeplabv2"), tmp_path / "anywhere")
    out = tmp_path / "network.onnx"
    assert main(["--checkpoint", str(path), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "any size" in said and "100.0000 % of pixels have the same label" in said
    session = runtime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    model = esl_dist.load(path, device="cpu")
    for number, size in ((1, (96, 64)), (3, (131, 77))):
        image = torch.cat([sample(size, seed) for seed in range(number)])
        labels, logits = session.run(["labels", "logits"], {"images": image.numpy()})
        expected = model.predictor(image).numpy()
        assert labels.shape == (number, size[1], size[0]) and labels.dtype == np.uint8
        np.testing.assert_allclose(logits, expected, atol=1e-4)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == list(model.classes)
    assert json.loads(metadata["palette"])[0] == list(model.card.palette[0])
    assert json.loads(metadata["normalisation (inside the graph)"])["deviation"] == [60, 61, 62]
    assert len(metadata["checkpoint sha256"]) == 64


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("deeplabv2", "pt2"),
        pytest.param("efficientnet", "pt2", marks=slow),
        pytest.param("efficientnet", "onnx", marks=slow),
    ],
)
def test_the_other_networks_and_kinds(
    name: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if suffix == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra export")
    path, out = saved(small(name), tmp_path / "anywhere"), tmp_path / f"network.{suffix}"
    assert main(["--checkpoint", str(path), "--out", str(out)]) == 0
    assert "any size" in capsys.readouterr().out
    if suffix == "pt2":
        extra = {METADATA: ""}
        program = torch.export.load(out, extra_files=extra).module()
        labels, _ = program(sample((131, 77), 3))
        expected = esl_dist.load(path, device="cpu")(sample((131, 77), 3)[0].permute(1, 2, 0).numpy())
        assert labels.shape[1:] == expected.labels.shape and len(json.loads(extra[METADATA])["classes"]) == 7


def test_a_graph_that_says_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Graph):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            labels, logits = super().forward(images)
            return (labels + 1) % 7, logits

    monkeypatch.setattr(exporting, "Graph", Other)
    card = Card.of(small("deeplabv2"))
    network = card.network()
    network.initialise(1, "kaiming")
    with pytest.raises(ValueError, match=r"not written: 100\.000 % of pixels got another label"):
        export(network, card, tmp_path / "x.pt2", "torch", "")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").touch()
    with pytest.raises(ValueError, match=r"must end with one of \.onnx, \.pt2"):
        main(["--checkpoint", str(tmp_path / "weights.pt"), "--out", str(tmp_path / "network.engine")])
    with pytest.raises(ValueError, match="--checkpoint"):
        main(["--checkpoint", str(tmp_path / "none"), "--out", str(tmp_path / "network.onnx")])
