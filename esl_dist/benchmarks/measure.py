"""Which benchmark ``python -m esl_dist.bench`` runs, and its figures as text."""

from __future__ import annotations

import argparse
import sys
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
    variants,
)
from esl_dist.benchmarks.common import RECORDS
from esl_dist.config.schema import RunConfig
from esl_dist.distributed.runtime import Runtime

SIMPLE = {
    "data": (data, 32),
    "extract": (extract, 60),
    "evaluate": (evaluate, 500),
    "modes": (modes, 20),
    "networks": (networks, 3),
    "teacher": (teacher, 10),
}
"""Benchmarks of one number alone, with its default."""


def _said(line: str) -> None:
    """On standard error as it comes; the table at the end is the result."""
    print(line, file=sys.stderr, flush=True)


def measure(arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """Figures and table of the benchmark that the command names."""
    if arguments.what == "step" and arguments.variants is not None:
        each = 10.0 if arguments.seconds is None else arguments.seconds
        found = variants.run(arguments.stage, arguments.options, arguments.variants, each, _said)
        return found, variants.table(found)
    if arguments.what == "step":
        if arguments.stage not in step.STAGES:
            raise ValueError(f"--stage {arguments.stage}: there is no plain loop of it to stand beside; add --variants")
        ways = arguments.precision
        figures = step.run(
            arguments.stage, arguments.options, arguments.config, ways, arguments.rounds, arguments.seconds
        )
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
