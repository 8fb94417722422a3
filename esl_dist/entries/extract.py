"""Pseudo-labels of a checkpoint: ``torchrun --nproc_per_node=N -m esl_dist.extract --config FILE --checkpoint CKPT
--out DIR``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from esl_dist.data import open_domain
from esl_dist.distributed.collectives import agree
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.guards import StopFlag, alone_in, die_with_parent
from esl_dist.entries import cli
from esl_dist.labelling import gather_evidence, open_extraction
from esl_dist.prediction.checkpoints import same_classes
from esl_dist.reporting.selection_page import write_selection_page
from esl_dist.runs import LabelSetFolder, RunFolder, TeacherFolder
from esl_dist.tracking.console import setup_logging

log = logging.getLogger("esl_dist.extract")


def main(argv: Sequence[str] | None = None) -> int:
    """Write ``DIR/labels/<target name>.png``, ``DIR/thresholds.json`` and ``DIR/spool``."""
    parser = cli.parser("extract", "Pseudo-labels of the target set by exact per-class thresholds.", default=cli.OWN)
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        help="folder of a checkpoint, a stage or a run, or a weights file of any lineage",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder to write to")
    parser.add_argument(
        "--from-spool", action="store_true", help="threshold the spool in --out again, without running the network"
    )
    parser.add_argument(
        "--evidence",
        action="store_true",
        help="first measure what tells before training: batch-norm statistics (extract.check_statistics images) and "
        "all confidences (extract.compare images, of the source where the target has no labels)",
    )
    arguments, config = cli.parse(parser, argv)
    said = same_classes(arguments.checkpoint, config)
    if said:
        cli.note(said)
    die_with_parent()
    out: Path = arguments.out
    started = Runtime.start(config.run, RunFolder(out).flight_recorder)
    with started as runtime, StopFlag() as stop, alone_in(out, runtime.is_main):
        setup_logging(runtime.is_main, None)
        target = agree(lambda: open_domain(config.data, "target"))
        extraction = open_extraction(
            config,
            arguments.checkpoint,
            target,
            runtime,
            LabelSetFolder(out).spool,
            from_spool=arguments.from_spool,
            stop=lambda: stop.local,
        )
        if arguments.evidence:
            gather_evidence(config, arguments.checkpoint, target, runtime, TeacherFolder(out), lambda: stop.local)
        made = extraction.make({".": config.pseudo_labels}, out, out)
        if runtime.is_main:
            log.info("%s", write_selection_page(out))
            for entry in made[0].thresholds["classes"]:
                log.info(
                    "%-14s %12d px  median %s  threshold %s  kept %d",
                    entry["name"],
                    entry["count"],
                    entry["median"],
                    entry["threshold"],
                    entry["kept"],
                )
    return 0
