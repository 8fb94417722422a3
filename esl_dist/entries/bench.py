"""Benchmarks beside what they beat, in one run: ``python -m esl_dist.bench --what
step|allreduce|data|extract|extract-whole|evaluate|modes|study|teacher [--out FILE]``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from esl_dist.benchmarks import step, variants
from esl_dist.benchmarks.measure import SIMPLE, measure
from esl_dist.entries import cli


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
    parser.add_argument("--stage", default="align", choices=(*step.STAGES, *step.TEACHERS), help="whose step")
    parser.add_argument(
        "--precision",
        nargs="+",
        default=(),
        choices=("fp32", "tf32", "bf16", "fp16"),
        help="of this package's step; the plain loop is fp32",
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns that plain loop and package take")
    parser.add_argument(
        "--variants",
        nargs="*",
        metavar="NAME",
        help=f"turn the step's switches one by one: {', '.join(v.name for v in variants.VARIANTS)} (default: all)",
    )
    parser.add_argument(
        "--seconds", type=float, help="at most, of each of --variants (10), or of a step's turns in place of --rounds"
    )
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
    unknown = set(arguments.variants or ()) - {variant.name for variant in variants.VARIANTS}
    if unknown:
        raise ValueError(f"--variants: no variant is called {min(unknown)!r}")
    cli.configuration(arguments)  # a wrong option is told before anything is measured
    figures, text = measure(arguments)
    if os.environ.get("RANK", "0") != "0":
        return 0
    print(text)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0
