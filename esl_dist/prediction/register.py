"""An exported graph as a version of a model in MLflow: ONNX, so that nothing pickled is read where it is served."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from esl_dist.config.schema import TrackingConfig
from esl_dist.config.secrets import without_password
from esl_dist.prediction.checkpoints import own_config
from esl_dist.tracking.backend import MlflowBackend, reason
from esl_dist.tracking.mlflow import tracking_uri
from esl_dist.tracking.state import MirrorState

MODEL = "model"
"""Name of what is logged; the registered model's is the user's."""
REQUIREMENTS = ("onnx", "onnxruntime", "numpy")
"""Of a place that serves it."""


@dataclass(frozen=True)
class Register:
    """A place for models: a name there, and the run of the server that a version comes from."""

    name: str
    uri: str
    experiment: str
    run_id: str
    """Empty for a run of its own."""

    @property
    def shown(self) -> str:
        return without_password(self.uri)


def register_of(name: str, checkpoint: Path, tracking: TrackingConfig) -> Register:
    """Where a checkpoint's graph is registered: at the server of ``tracking``, or where its run is mirrored to; there
    as a product of its stage.

    Raises:
        ValueError: MLflow is not installed, no server is named, or the name is none.
    """
    if not name.strip() or set(name) & set("/:"):
        raise ValueError(f"--register: {name!r} is no name of a model: take one without / and :")
    if importlib.util.find_spec("mlflow") is None:
        raise ValueError("--register: mlflow is not installed: pip install 'esl_dist[track]'")
    own = own_config(checkpoint)
    if own is None and not (tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")):
        raise ValueError("--register: the checkpoint lies in no run; name a server: tracking.uri=http://HOST:5000")
    run_dir = Path() if own is None else Path(own).parent
    uri = tracking_uri(tracking, run_dir)
    state = None if own is None else MirrorState.load(run_dir)
    if state is None or state.uri != without_password(uri):
        return Register(name, uri, tracking.experiment, "")
    stage = checkpoint.absolute().relative_to(run_dir).parts[0]
    return Register(name, uri, state.experiment, state.stages.get(stage, state.run_id))


def register(place: Register, graph: Path, metadata: dict[str, Any], about: str) -> str:
    """Log an ONNX file with its signature and make it the newest version of ``place.name``; returns the version.

    Args:
        metadata: what a user of the graph must know, JSON-ready.
        about: a line for people, beside the version.

    Raises:
        ValueError: the server does not take it; one line.
    """
    backend = MlflowBackend(place.uri, place.experiment, f"export {place.name}")
    try:
        run_id = place.run_id or backend.create(f"export {place.name}")
        model = importlib.import_module("onnx").load(str(graph))
        with _spoken_to(place.uri) as mlflow:
            logged = importlib.import_module("mlflow.models").Model.log(
                artifact_path=None,
                name=MODEL,
                flavor=importlib.import_module("mlflow.onnx"),
                run_id=run_id,
                onnx_model=model,
                signature=signature(model),
                metadata=metadata,
                pip_requirements=[f"{name}=={version(name)}" for name in REQUIREMENTS],
                save_as_external_data=False,
            )
            made = mlflow.register_model(logged.model_uri, place.name, await_registration_for=None).version
        backend.client().update_model_version(place.name, made, description=about)
        if not place.run_id:
            backend.client().set_terminated(run_id)
    except Exception as error:
        raise ValueError(f"--register: {place.shown} does not take the model: {reason(error)}") from None
    return str(made)


def signature(model: Any) -> Any:
    """MLflow's signature of an ONNX graph: name, type and shape of each tensor, -1 where a size is free."""
    types, helper = importlib.import_module("mlflow.types"), importlib.import_module("onnx").helper

    def schema(tensors: Any) -> Any:
        specs = []
        for tensor in tensors:
            found = tensor.type.tensor_type
            shape = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in found.shape.dim)
            kind = helper.tensor_dtype_to_np_dtype(found.elem_type)
            specs.append(types.TensorSpec(kind, shape, tensor.name))
        return types.Schema(specs)

    made = importlib.import_module("mlflow.models").ModelSignature
    return made(inputs=schema(model.graph.input), outputs=schema(model.graph.output))


@contextlib.contextmanager
def _spoken_to(uri: str) -> Iterator[Any]:
    """MLflow logs models to one server of the whole process: this one, inside. What it says of it is left aside."""
    mlflow = importlib.import_module("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield mlflow
    finally:
        mlflow.set_tracking_uri(before)
