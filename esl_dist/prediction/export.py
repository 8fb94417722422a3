"""A network as one graph for other programs: ONNX, or torch.export. Preprocessing is inside, metadata beside, and the
graph is held against the network before anybody gets it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_dist import __version__
from esl_dist.atomic import write_bytes
from esl_dist.models.card import Card
from esl_dist.models.segmenter import Segmenter

log = logging.getLogger(__name__)

OPSET = 18
SMALLEST = 64
"""Pixels of a side that a graph of free size is made for."""
LARGEST = 8192
SAME_LABELS = 0.9999
"""Least share of pixels that must have the network's label."""
METADATA = "esl_dist.json"

Run = Callable[[NDArray[np.uint8]], tuple[NDArray[Any], NDArray[Any]]]
"""uint8 RGB ``[N, 3, H, W]`` to labels ``[N, H, W]`` and logits ``[N, C, h, w]``."""


class Graph(nn.Module):
    """What is exported: uint8 RGB ``[N, 3, H, W]`` to labels uint8 ``[N, H, W]`` and logits at the network's stride.

    Labels are the argmax of logits upsampled with ``align_corners=True``, as evaluation takes it.
    """

    def __init__(self, network: Segmenter, card: Card) -> None:
        super().__init__()
        self.network = network.plainly().eval()
        self.turned = card.normalisation.order == "bgr"
        for name in ("mean", "deviation"):
            self.register_buffer(name, torch.tensor(getattr(card.normalisation, name)).view(1, 3, 1, 1))
        self.mean: Tensor
        self.deviation: Tensor

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pixels = images.flip(1) if self.turned else images
        logits: Tensor = self.network((pixels.float() - self.mean) / self.deviation).main
        large = F.interpolate(logits, size=images.shape[2:], mode="bilinear", align_corners=True)
        return large.argmax(1).to(torch.uint8), logits


@dataclass(frozen=True)
class Exported:
    """How a graph compares with its network."""

    sizes: tuple[tuple[int, int], ...]
    """Widths and heights that it was compared at."""
    free_size: bool
    """Whether it takes images of any size and number."""
    same: float
    """Share of pixels with the network's label."""
    difference: float
    """Largest difference of a logit."""
    largest: float
    """Largest logit."""


def export(network: Segmenter, card: Card, out: Path, kind: str, source: str) -> Exported:
    """Write ``out`` (``onnx`` or ``torch``), complete or not at all.

    Args:
        network: on the CPU, with its weights.
        source: SHA-256 of the checkpoint, for the metadata.

    Raises:
        ValueError: a package is missing, or the graph says something else than the network.
    """
    network.eval()
    sizes = _sizes(card.input_size)
    samples = [sample(size, seed) for seed, size in enumerate(sizes)]
    samples[1] = torch.cat([samples[1], samples[1].flip(-1)])
    with torch.no_grad():
        expected = [network(card.normalisation(image)).main for image in samples]  # in the form that it was trained in
    graph = Graph(network, card)
    metadata = describe(card, source)
    make = {"onnx": _onnx, "torch": _torch}[kind]
    content, run, free = make(graph, samples[0], metadata, True)
    try:
        found = _compare(run, samples, expected) if free else None
    except Exception as error:  # a graph that was traced for any size, and then took another size for an error
        log.info("not for any size: %s", (str(error).splitlines() or [type(error).__name__])[0])
        content, run, _ = make(graph, samples[0], metadata, False)
        found = None
    compared = len(samples) if found else 1
    result = Exported(tuple(sizes[:compared]), bool(found), *(found or _compare(run, samples[:1], expected[:1])))
    if result.same < SAME_LABELS:
        raise ValueError(
            f"{out}: not written: {100 * (1 - result.same):.3f} % of pixels got another label than the network gives"
            f" (largest difference of a logit {result.difference:.2g} of {result.largest:.2g})"
        )
    write_bytes(out, content)
    return result


def describe(card: Card, source: str) -> dict[str, Any]:
    """What a user of the graph must know, JSON-ready."""
    return {
        "made by": f"esl_dist {__version__}",
        "checkpoint sha256": source,
        "classes": list(card.classes),
        "palette": [list(colour) for colour in card.palette],
        "input": "images: uint8 RGB [N, 3, H, W], not normalised",
        "outputs": "labels: uint8 [N, H, W], indices of classes; logits: float32 [N, C, h, w] at the network's stride",
        "normalisation (inside the graph)": {
            "order": card.normalisation.order,
            "mean": list(card.normalisation.mean),
            "deviation": list(card.normalisation.deviation),
        },
        "scored at (width, height)": list(card.input_size),
        **({"scored in windows (width, height)": list(card.window)} if any(card.window) else {}),
        "fit": card.fit,
    }


def sample(size: tuple[int, int], seed: int) -> Tensor:
    """An image of blocks, slopes and noise, uint8 ``[1, 3, H, W]``, for a (width, height)."""
    width, height = size
    stream = np.random.RandomState(seed)
    blocks = stream.randint(0, 256, (3, -(-height // 32), -(-width // 32))).repeat(32, 1).repeat(32, 2)
    slope = np.linspace(-40, 40, width)[None, None] + np.linspace(-20, 20, height)[None, :, None]
    pixels = blocks[:, :height, :width] + slope + stream.randint(-12, 13, (3, height, width))
    return torch.from_numpy(np.clip(pixels, 0, 255).astype(np.uint8))[None]


def _sizes(size: tuple[int, int]) -> list[tuple[int, int]]:
    """The size that the network was scored at, and others of odd numbers of pixels."""
    width, height = size
    return [size, (max(width // 2 + 7, SMALLEST), max(height // 2 + 3, SMALLEST)), (width + 33, height + 17)]


def _compare(run: Run, samples: Sequence[Tensor], expected: Sequence[Tensor]) -> tuple[float, float, float]:
    same = pixels = 0
    difference = largest = 0.0
    for image, logits in zip(samples, expected, strict=True):
        labels, found = run(image.numpy())
        large = F.interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=True)
        same += int((torch.from_numpy(labels) == large.argmax(1)).sum())
        pixels += labels.size
        difference = max(difference, float((torch.from_numpy(found) - logits).abs().max()))
        largest = max(largest, float(logits.abs().max()))
    return same / pixels, difference, largest


def _onnx(graph: Graph, image: Tensor, metadata: dict[str, Any], free: bool) -> tuple[bytes, Run, bool]:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(name)
        except ImportError:
            raise ValueError(f"export: needs the package {name}: pip install 'esl_dist[export]'") from None
    import onnx
    import onnxruntime

    def made(shapes: Any) -> Any:
        with _quiet():
            return torch.onnx.export(
                graph,
                (_traced(image, shapes),),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["labels", "logits"],
                dynamic_shapes=shapes,
                verbose=False,
            )

    sides = [torch.export.Dim(name, min=SMALLEST, max=LARGEST) for name in ("height", "width")]
    program, free = _free_or_fixed(made, [torch.export.Dim("number", min=1, max=256), *sides] if free else [])
    model = program.model_proto
    onnx.helper.set_model_props(
        model, {key: value if isinstance(value, str) else json.dumps(value) for key, value in metadata.items()}
    )
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
        labels, logits = session.run(["labels", "logits"], {"images": images})
        return labels, logits

    return content, run, free


def _torch(graph: Graph, image: Tensor, metadata: dict[str, Any], free: bool) -> tuple[bytes, Run, bool]:
    def made(shapes: Any) -> Any:
        with _quiet():
            return torch.export.export(graph, (_traced(image, shapes),), dynamic_shapes=shapes)

    program, free = _free_or_fixed(made, [torch.export.Dim.AUTO] * 3 if free else [])
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer, extra_files={METADATA: json.dumps(metadata)})
        again = torch.export.load(io.BytesIO(buffer.getvalue())).module()

    def run(images: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[Any]]:
        with torch.no_grad():
            labels, logits = again(torch.from_numpy(images))
        return labels.numpy(), logits.numpy()

    return buffer.getvalue(), run, free


def _free_or_fixed(made: Callable[[Any], Any], sides: Sequence[Any]) -> tuple[Any, bool]:
    """The graph for images of any number and size; of the sample's size where the network's shapes do not allow it.

    Args:
        sides: what the tracer takes for a free number, height and width; nothing asks for the fixed graph.
    """
    if not sides:
        return made(None), False
    try:
        return made({"images": dict(zip((0, 2, 3), sides, strict=True))}), True
    except Exception as error:  # whatever the tracer raises, the fixed graph is tried, and its error is the user's
        log.info("not for any size: %s", (str(error).splitlines() or [type(error).__name__])[0])
        return made(None), False


def _traced(image: Tensor, shapes: Any) -> Tensor:
    """Two images where their number is free: tracers take a one for a constant."""
    return image if shapes is None else image.repeat(2, 1, 1, 1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters write of their own packages and of deprecations."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        registry = logging.getLogger("torch.onnx._internal.exporter._registration")
        level = registry.level
        registry.setLevel(logging.ERROR)
        try:
            yield
        finally:
            registry.setLevel(level)
