"""Scores of a checkpoint: ``torchrun --nproc_per_node=N -m esl_dist.evaluate --config FILE --checkpoint CKPT [--out
FILE]``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from esl_dist.data import open_at_size
from esl_dist.distributed.collectives import agree
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.guards import StopFlag, die_with_parent
from esl_dist.entries import cli
from esl_dist.labelling import statistics_batches
from esl_dist.labels import protocol
from esl_dist.metrics.ensemble import Predict, flipped, multi_scale, weighted
from esl_dist.metrics.evaluate import Conditions, evaluate, write_metrics
from esl_dist.metrics.inference import Predictor
from esl_dist.metrics.sliding import windowed
from esl_dist.runs import RunFolder
from esl_dist.tracking.console import setup_logging


def main(argv: Sequence[str] | None = None) -> int:
    """Print the scores and write ``metrics.json``, one file per entry of ``eval.bn_statistics``."""
    parser = cli.parser("evaluate", "Score a checkpoint on labelled target images (eval.split).")
    parser.add_argument(
        "--checkpoint",
        required=True,
        action="append",
        type=Path,
        help="folder of a checkpoint, a stage or a run, or a weights file; several average their logits",
    )
    parser.add_argument(
        "--weight", action="append", type=float, help="weight of each --checkpoint, in their order (default: equal)"
    )
    parser.add_argument("--flip", action="store_true", help="average with the mirror image")
    parser.add_argument(
        "--scales", default="1", help="average over these factors of eval.input_size, such as 0.75,1,1.25"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("metrics.json"),
        help="file to write; a second BN statistic goes to <name>-<statistic>.json beside it",
    )
    arguments, config = cli.parse(parser, argv)
    try:
        scales = [float(word) for word in arguments.scales.split(",")]
    except ValueError:
        raise ValueError(f"--scales: {arguments.scales!r} is not a list of numbers such as 0.75,1,1.25") from None
    weights = arguments.weight or [1.0] * len(arguments.checkpoint)
    for weight in weights:
        cli.at_least(0, "--weight", weight)
    for scale in scales:
        cli.at_least(0.05, "--scales", scale)
    die_with_parent()
    with Runtime.start(config.run, RunFolder(arguments.out.parent).flight_recorder) as runtime, StopFlag() as stop:
        setup_logging(runtime.is_main, None)
        agree(lambda: runtime.inference(config.eval.precision, "eval.precision"))
        data, options, table = config.data, config.eval, protocol(config.data.protocol)
        scored = agree(lambda: open_at_size(data.target, data, options.input_size, options.split or None))
        target = agree(lambda: open_at_size(data.target, data)) if "target" in options.bn_statistics else scored
        networks = agree(
            lambda: [
                Predictor.from_checkpoint(config, path, runtime, options.precision) for path in arguments.checkpoint
            ]
        )
        predict: Predict = weighted(networks, weights) if len(networks) > 1 or arguments.weight else networks[0]
        predict = windowed(predict, options)
        predict = multi_scale(predict, scales) if scales != [1.0] else predict
        predict = flipped(predict) if arguments.flip else predict
        for number, kind in enumerate(options.bn_statistics):
            with contextlib.ExitStack() as stack:
                stack.enter_context(runtime.fixed_forward(options.precision))
                for network in networks:
                    stack.enter_context(network.statistics(kind, statistics_batches(config, target)))
                result = evaluate(predict, scored, Conditions.of(config), stop=lambda: stop.local)
            out: Path = (
                arguments.out
                if number == 0
                else arguments.out.with_name(f"{arguments.out.stem}-{kind}{arguments.out.suffix}")
            )
            if runtime.is_main:
                for name, value in zip(table.classes, result.iou, strict=True):
                    print(f"{name:16} " + (f"{100 * value:6.2f}" if value == value else "     –"))
                extra = {
                    "bn_statistics": kind,
                    "split": options.split,
                    "protocol": table.name,
                    "checkpoints": [str(p) for p in arguments.checkpoint],
                }
                write_metrics(result, out, {**extra, "weights": weights, "flip": arguments.flip, "scales": scales})
                print(
                    f"{'mean':16} {100 * result.miou:6.2f}  over {result.images} images, {kind} BN statistics,"
                    f" {options.at} size; written: {out}",
                    flush=True,
                )
    return 0
