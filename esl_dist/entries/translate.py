"""Rewrite a domain in the other's look: ``torchrun --nproc_per_node=N -m esl_dist.translate --config FILE --checkpoint
CKPT --out DIR``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from esl_dist.data import open_dataset
from esl_dist.distributed.collectives import agree
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.guards import StopFlag, die_with_parent
from esl_dist.entries import cli
from esl_dist.methods.translation.rewriting import Translator, rewrite
from esl_dist.runs import RunFolder
from esl_dist.tracking.console import setup_logging


def main(argv: Sequence[str] | None = None) -> int:
    """Make ``DIR`` a data set of the same layout with the same labels; the same command goes on where it stopped."""
    parser = cli.parser(
        "translate", "Translate a domain's images with the generator of a translate stage.", default=cli.OWN
    )
    parser.add_argument(
        "--checkpoint", required=True, type=Path, help="folder of a translate stage, of its run, or of a checkpoint"
    )
    parser.add_argument(
        "--out", required=True, type=Path, help="folder that becomes the data set; its record is DIR.json"
    )
    parser.add_argument(
        "--domain",
        choices=("source", "target"),
        default="source",
        help="whose images: data.source's, to the target's look (default), or data.target's, to the source's",
    )
    arguments, config = cli.parse(parser, argv, network="to_target")
    if not arguments.checkpoint.is_dir():
        raise ValueError(f"--checkpoint: no folder {arguments.checkpoint}; name a step_* folder of a translate stage")
    domain, look = (config.data.source, "target") if arguments.domain == "source" else (config.data.target, "source")
    die_with_parent()
    with Runtime.start(config.run, RunFolder(arguments.out.parent).flight_recorder) as runtime, StopFlag() as stop:
        setup_logging(runtime.is_main, None)
        dataset = agree(lambda: open_dataset(domain, config.data.root, config.data.classes))
        translator = agree(lambda: Translator(arguments.checkpoint, look, config.translate, runtime))
        rewrite(
            dataset,
            Path(config.data.root, domain.root),
            arguments.out,
            translator,
            lambda text: print(text, flush=True),
            stop=lambda: stop.local,
        )
        if runtime.is_main:
            print(
                f"{len(dataset)} images in the {look}'s look: {arguments.out.absolute()}; read them with"
                f" data.{arguments.domain}.root={arguments.out.absolute()}",
                flush=True,
            )
    return 0
