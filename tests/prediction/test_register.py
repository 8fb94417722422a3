"""An exported graph in MLflow's registry: its signature, what it says when it is loaded, and refusals of one line."""

from __future__ import annotations

import importlib.util
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from esl_dist.config.schema import TrackingConfig
from esl_dist.entries.export import main
from esl_dist.prediction.export import Exported
from esl_dist.prediction.register import Register, register, register_of
from esl_dist.runs import RunFolder
from esl_dist.tracking.state import MirrorState
from tests.prediction.test_python import saved, small

mlflow = pytest.importorskip("mlflow", reason="needs the extra track")
onnx = pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")


def graph(path: Path) -> Path:
    """Labels that are the smallest of an image's three channels; logits that are the image."""
    helper, proto = onnx.helper, onnx.TensorProto
    images = helper.make_tensor_value_info("images", proto.UINT8, ["number", 3, "height", "width"])
    labels = helper.make_tensor_value_info("labels", proto.UINT8, ["number", 1, "height", "width"])
    logits = helper.make_tensor_value_info("logits", proto.FLOAT, ["number", 3, "height", "width"])
    nodes = [
        helper.make_node("Cast", ["images"], ["logits"], to=proto.FLOAT),
        helper.make_node("ReduceMin", ["logits"], ["smallest"], axes=[1]),
        helper.make_node("Cast", ["smallest"], ["labels"], to=proto.UINT8),
    ]
    made = helper.make_graph(nodes, "graph", [images], [labels, logits])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_a_version_has_a_signature_and_its_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    own = Register("street-networks", uri, "esl_dist", "")
    assert register(own, graph(tmp_path / "a.onnx"), {"classes": ["road"]}, "the first") == "1"
    client = mlflow.MlflowClient(tracking_uri=uri)
    first = client.get_model_version("street-networks", "1")
    run = client.get_run(first.run_id)
    assert (run.info.run_name, run.info.status, first.description) == (
        "export street-networks",
        "FINISHED",
        "the first",
    )
    again = Register("street-networks", uri, "esl_dist", first.run_id)
    assert register(again, tmp_path / "a.onnx", {}, "") == "2"
    assert client.get_model_version("street-networks", "2").run_id == first.run_id
    assert "uccessfully" not in capfd.readouterr().err

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        loaded = mlflow.pyfunc.load_model("models:/street-networks/1")
        folder = Path(mlflow.artifacts.download_artifacts("models:/street-networks/1", dst_path=str(tmp_path / "got")))
    finally:
        mlflow.set_tracking_uri(before)
    (images,), outputs = loaded.metadata.signature.inputs.inputs, loaded.metadata.signature.outputs.inputs
    assert (images.name, images.type, images.shape) == ("images", np.dtype("uint8"), (-1, 3, -1, -1))
    assert [(o.name, o.type.name, o.shape[1]) for o in outputs] == [("labels", "uint8", 1), ("logits", "float32", 3)]
    assert loaded.metadata.metadata == {"classes": ["road"]}
    image = np.random.RandomState(0).randint(0, 256, (2, 3, 5, 7), np.uint8)
    said = loaded.predict({"images": image})
    assert np.array_equal(said["labels"][:, 0], image.min(1)) and np.array_equal(said["logits"], image)
    with pytest.raises(Exception, match="uint8"):
        loaded.predict({"images": image.astype(np.float32) / 255})
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert "model.onnx" in files and not [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".pth"))]
    assert "onnxruntime==" in (folder / "requirements.txt").read_text()


def in_a_run(folder: Path, uri: str) -> Path:
    """A stage's checkpoint in a run that is mirrored to ``uri``."""
    run = RunFolder(folder)
    step = run.stage("align").checkpoints / "step_00000001"
    step.mkdir(parents=True)
    run.config.write_text("")
    MirrorState(uri, "mine", "run", run_id="whole", stages={"align": "part"}).save(folder)
    return step


def test_it_is_a_product_of_its_stage_where_its_run_is_mirrored_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    step = in_a_run(tmp_path / "run", database)
    assert register_of("n", step, TrackingConfig()) == Register("n", database, "mine", "part")
    elsewhere = register_of("n", step, TrackingConfig(uri="http://a:1"))
    assert elsewhere == Register("n", "http://a:1", "esl_dist", "")
    # A password is known from the environment alone, and written nowhere.
    step = in_a_run(tmp_path / "other", "http://a:1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@a:1")
    found = register_of("n", step, TrackingConfig(uri="http://a:1"))
    assert (found.uri, found.shown, found.run_id) == ("http://me:secret@a:1", "http://a:1", "part")


def test_the_command_registers_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    taken: list[Any] = []

    def take(place: Register, path: Path, metadata: dict[str, Any], about: str) -> str:
        taken.extend([place, path.is_file(), json.loads(json.dumps(metadata))["classes"], about])
        return "7"

    def write(network: object, card: object, out: Path, kind: str, source: str) -> Exported:
        out.write_bytes(b"a graph")
        return Exported(((64, 64),), True, 1.0, 0.0, 1.0)

    monkeypatch.setattr("esl_dist.entries.export.register", take)
    monkeypatch.setattr("esl_dist.entries.export.export", write)
    path, uri = saved(small("deeplabv2"), tmp_path / "anywhere"), "http://me:secret@127.0.0.1:1"
    words = ["--checkpoint", str(path), "--out", str(tmp_path / "n.onnx"), "--register", "n", f"tracking.uri={uri}"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "registered: n, version 7 (http://127.0.0.1:1)" in said and "secret" not in said
    assert taken[0].uri == uri and taken[1] and len(taken[2]) == 7 and "100.0000 %" in taken[3]


def closed_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def test_refusals_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    path = saved(small("deeplabv2"), tmp_path / "anywhere")
    with pytest.raises(ValueError, match=r"lies in no run; name a server: tracking\.uri="):
        register_of("n", path, TrackingConfig())
    for name in ("", "a/b", "models:/n"):
        with pytest.raises(ValueError, match="is no name of a model"):
            register_of(name, path, TrackingConfig(uri="http://a:1"))
    with pytest.raises(ValueError, match=r"--register: takes an ONNX graph; .*n\.pt2 is none"):
        main(["--checkpoint", str(path), "--out", str(tmp_path / "n.pt2"), "--register", "n"])
    dead = Register("n", f"http://me:secret@127.0.0.1:{closed_port()}", "esl_dist", "")
    with pytest.raises(ValueError, match="does not take the model") as refused:
        register(dead, graph(tmp_path / "a.onnx"), {}, "")
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"mlflow is not installed: pip install 'esl_dist\[track\]'"):
        register_of("n", path, TrackingConfig(uri="http://a:1"))
