"""A study: ``python -m esl_dist.tune --config FILE [--address auto] [study.option=value |
section.option=value ...]``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from esl_dist.config.study import load_study
from esl_dist.entries import cli
from esl_dist.studies.driver import run_study
from esl_dist.tracking.console import setup_logging


def main(argv: Sequence[str] | None = None) -> int:
    """Run every trial that is not finished yet; the same command goes on after any end."""
    parser = cli.parser("tune", "Trials over options, with what they share made once.", schema=None)
    parser.add_argument("--config", metavar="FILE", required=True, help="a study, such as configs/sweeps/smoke.yaml")
    parser.add_argument(
        "--address",
        default="",
        help="Ray cluster to use (auto, or its address); without it Ray is started on this machine",
    )
    parser.add_argument(
        "options", nargs="*", metavar="option=value", help="study.option=value, or section.option=value for every trial"
    )
    arguments = parser.parse_intermixed_args(argv)
    study = load_study(arguments.config, arguments.options)
    if arguments.address:
        study = dataclasses.replace(study, address=arguments.address)
    setup_logging(True, study.folder)
    return run_study(study)
