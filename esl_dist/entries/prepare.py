"""Resized images and labels, made once: ``python -m esl_dist.prepare [--config FILE] [--workers N]
[section.option=value ...]``, or by torchrun.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from esl_dist import processes
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.guards import die_with_parent
from esl_dist.entries import cli
from esl_dist.preparation import IMAGES_PER_FILE, prepare
from esl_dist.runs import RunFolder
from esl_dist.tracking.console import setup_logging


def main(argv: Sequence[str] | None = None) -> int:
    """Make what is missing below ``data.prepared``, check what is there; a killed preparation goes on where it was."""
    parser = cli.parser("prepare", "Resize every image and label once, so that training reads instead of decoding.")
    parser.add_argument(
        "--workers", type=int, help="processes per rank, 0: this one alone (default: one per core of the rank's share)"
    )
    parser.add_argument(
        "--per-file", type=int, default=IMAGES_PER_FILE, metavar="N", help="images per HDF5 file (default %(default)s)"
    )
    arguments, config = cli.parse(parser, argv)
    cli.at_least(1, "--per-file", arguments.per_file)
    cli.at_least(0, "--workers", arguments.workers)
    die_with_parent()
    # No GPU takes part, so there may be more ranks than GPUs.
    records = RunFolder(Path(config.data.prepared)).flight_recorder
    with Runtime.start(dataclasses.replace(config.run, device="cpu", precision="fp32"), records) as runtime:
        setup_logging(runtime.is_main, None)
        cores = processes.cores() // runtime.local_world
        workers = cores if arguments.workers is None else arguments.workers
        made = prepare(config, workers, arguments.per_file)
        if runtime.is_main:
            for found in made:
                size = f"{found['bytes'] / max(found['images'], 1) / 1e6:.2f} MB each, {found['bytes'] / 1e9:.2f} GB"
                done = f"{found['made']} files made" if found["made"] else "all there and whole"
                print(
                    f"{found['folder']}: {found['images']} images, {size}, {done} ({found['seconds']:.1f} s)",
                    flush=True,
                )
    return 0
