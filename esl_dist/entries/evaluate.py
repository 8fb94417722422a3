"""Scores of a checkpoint: ``torchrun --nproc_per_node=N -m esl_dist.evaluate --config FILE --checkpoint CKPT [--out
FILE]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.guards import StopFlag, die_with_parent
from esl_dist.entries import cli
from esl_dist.evaluation import Ensemble, evaluated, table
from esl_dist.metrics.evaluate import write_metrics
from esl_dist.prediction.checkpoints import same_classes
from esl_dist.runs import RunFolder
from esl_dist.tracking.console import setup_logging


def main(argv: Sequence[str] | None = None) -> int:
    """Print the scores and write ``metrics.json``, one file per entry of ``eval.bn_statistics``."""
    parser = cli.parser("evaluate", "Score a checkpoint on labelled target images (eval.split).", default=cli.OWN)
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
    for weight in arguments.weight or ():
        cli.at_least(0, "--weight", weight)
    for scale in scales:
        cli.at_least(0.05, "--scales", scale)
    ensemble = Ensemble(arguments.checkpoint, arguments.weight or (), arguments.flip, scales)
    for path in arguments.checkpoint:
        said = same_classes(path, config)
        if said:
            cli.note(said)
    cli.file_to_write("--out", arguments.out)
    die_with_parent()
    with Runtime.start(config.run, RunFolder(arguments.out.parent).flight_recorder) as runtime, StopFlag() as stop:
        setup_logging(runtime.is_main, None)
        out: Path = arguments.out
        for number, (kind, result) in enumerate(evaluated(config, ensemble, runtime, lambda: stop.local)):
            path = out.with_name(f"{out.stem}-{kind}{out.suffix}") if number else out
            if runtime.is_main:
                about = {"bn_statistics": kind, **ensemble.about(config)}
                write_metrics(result, path, about)
                print(table(result, config, kind), f"written: {path}", sep="; ", flush=True)
    return 0
