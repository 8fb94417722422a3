"""Benchmarks beside what they beat, in one run: ``python -m esl_dist.bench --what
step|allreduce|data|extract|extract-whole|evaluate|modes|study|teacher [--out FILE]``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esl_dist.benchmarks import (
    ceilings,
    data,
    evaluate,
    extract,
    extract_whole,
    modes,
    networks,
    projection,
    step,
    study,
    teacher,
)
from esl_dist.benchmarks.common import RECORDS
from esl_dist.config.schema import RunConfig
from esl_dist.distributed.runtime import Runtime
from esl_dist.entries import cli

SIMPLE = {
    "data": (data, 32),
    "extract": (extract, 60),
    "evaluate": (evaluate, 500),
    "modes": (modes, 20),
    "networks": (networks, 3),
    "teacher": (teacher, 10),
}
"""Benchmarks of one number alone, with its default."""


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table, and write the figures as JSON if asked; of several ranks the first does."""
    parser = cli.parser("bench", "Measure this machine; quote ratios of one run, from an otherwise quiet machine.")
    parser.add_argument("--what", required=True, choices=("step", "allreduce", "extract-whole", "study", *SIMPLE))
    parser.add_argument(
        "--images",
        type=int,
        help="images (of modes and teacher: steps, of study: trials) to measure on (default: as in the README)",
    )
    parser.add_argument("--ranks", type=int, default=2, help="processes of extract-whole, ranks of study")
    parser.add_argument("--stage", default="align", choices=step.STAGES, help="whose step")
    parser.add_argument(
        "--precision",
        nargs="+",
        default=(),
        choices=("fp32", "tf32", "bf16", "fp16"),
        help="of this package's step; the plain loop is fp32",
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns that plain loop and package take")
    parser.add_argument(
        "--project", nargs="+", type=int, default=(), metavar="N", help="also compute, not measure, the step on N GPUs"
    )
    parser.add_argument("--link-gbs", type=float, default=50.0, help="GB/s of a GPU's link that the projection assumes")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_intermixed_args(argv)
    for name in ("images", "ranks", "rounds"):
        cli.at_least(1, f"--{name}", getattr(arguments, name))
    for count in arguments.project:
        cli.at_least(1, "--project", count)
    cli.at_least(1e-6, "--link-gbs", arguments.link_gbs)
    cli.configuration(arguments)  # a wrong option is told before anything is measured
    figures, text = _measure(arguments)
    if os.environ.get("RANK", "0") != "0":
        return 0
    print(text)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


def _measure(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    if arguments.what == "step":
        figures = step.run(arguments.stage, arguments.options, arguments.config, arguments.precision, arguments.rounds)
        text = step.table(figures)
        if arguments.project:
            figures["projection"] = projection.project(figures, arguments.project, arguments.link_gbs)
            text += "\n" + projection.projection_table(figures["projection"], arguments.link_gbs)
        return figures, text
    if arguments.what == "allreduce":
        with Runtime.start(RunConfig(), RECORDS) as runtime:
            figures = ceilings.allreduce(runtime)
        return figures, ceilings.allreduce_table(figures)
    if arguments.what == "extract-whole":
        figures = extract_whole.whole(arguments.images or 3000, arguments.ranks)
        return figures, extract_whole.table(figures, extract_whole.computed())
    if arguments.what == "study":
        figures = study.run(arguments.images or 5, arguments.ranks)
        return figures, study.table(figures)
    module, images = SIMPLE[arguments.what]
    figures = module.run(arguments.images or images)
    return figures, module.table(figures)
