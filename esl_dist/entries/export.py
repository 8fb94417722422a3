"""A checkpoint's network for other programs: ``python -m esl_dist.export --checkpoint CKPT --out FILE``."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

from esl_dist.entries import cli
from esl_dist.models.weights import load_trained
from esl_dist.prediction.export import OPSET, export
from esl_dist.prediction.export import describe as describe_graph
from esl_dist.prediction.model import describe, weights_file
from esl_dist.prediction.register import register, register_of

KINDS = {".onnx": "onnx", ".pt2": "torch"}
"""Of the files that can be written."""


def parser() -> argparse.ArgumentParser:
    made = cli.parser("export", f"Write a network as one graph: ONNX (opset {OPSET}) or torch.export.", default=cli.OWN)
    made.add_argument(
        "--checkpoint", required=True, type=Path, help="folder of a checkpoint, a stage or a run, or a weights file"
    )
    made.add_argument("--out", required=True, type=Path, help="FILE.onnx, or FILE.pt2 for torch.export")
    made.add_argument(
        "--register", metavar="NAME", help="also as the newest version of a model in MLflow (FILE.onnx; tracking.uri)"
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Write the graph, and say how it compares with the network."""
    arguments, config = cli.parse(parser(), argv)
    kind = KINDS.get(arguments.out.suffix)
    if kind is None:
        raise ValueError(f"--out: {arguments.out} must end with one of {', '.join(KINDS)}")
    if arguments.register is not None and kind != "onnx":
        raise ValueError(f"--register: takes an ONNX graph; {arguments.out} is none (--out FILE.onnx)")
    cli.file_to_write("--out", arguments.out)
    checkpoint: Path = arguments.checkpoint
    card, layout = describe(checkpoint, None if arguments.own else arguments.config, arguments.options)
    place = None
    if arguments.register is not None:
        place = register_of(arguments.register, checkpoint, config.tracking)
    network, file = card.network(), weights_file(checkpoint)
    load_trained(file, network, layout)
    text = network.describe()
    source = hashlib.sha256(file.read_bytes()).hexdigest()
    made = export(network, card, arguments.out, kind, source)
    sizes = ", ".join(f"{width}x{height}" for width, height in made.sizes)
    free = "any size" if made.free_size else f"{sizes} alone"
    same = f"{100 * made.same:.4f} % of pixels have the same label"
    compared = f"{same}, logits differ by at most {made.difference:.2g} of {made.largest:.3g}"
    print(f"{text}, {len(card.classes)} classes: {free}")
    print(f"against the network at {sizes}: {compared}")
    print(f"written: {arguments.out}", flush=True)
    if place is not None:
        about = f"{text}, {len(card.classes)} classes, {free}. Against the network at {sizes}: {compared}."
        version = register(place, arguments.out, describe_graph(card, source), about)
        print(f"registered: {place.name}, version {version} ({place.shown})", flush=True)
    return 0


if __name__ == "__main__":
    cli.run(main)
