"""Pages from folders: ``esl_dist report RUN`` (or a study's folder), and ``esl_dist report RUN RUN … [--out FILE]`` for
the runs and a page that compares them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from esl_dist.entries import cli
from esl_dist.reporting.grid import write_grid
from esl_dist.reporting.report import write_report
from esl_dist.reporting.study_page import markdown, write_study
from esl_dist.reporting.study_table import collect
from esl_dist.reporting.terminal import print_table
from esl_dist.runs import StudyFolder
from esl_dist.studies.results import table, write


def main(argv: Sequence[str] | None = None) -> int:
    """Print each run's table and write its ``report.html``; of several runs also the common table."""
    parser = cli.parser("report", "Reports of runs, from their folders alone.", schema=None)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="run folder, such as runs/streets, or a study's, such as runs/studies/nu; several runs are also compared:"
        " mean and spread over those that differ in their seed alone, paired differences",
    )
    parser.add_argument("--table1", action="store_true", help="only compare: the runs' own reports stay as they are")
    parser.add_argument(
        "--out",
        type=Path,
        help="where the comparison is written; .md, .csv and .html are put in place of its suffix (default: comparison;"
        " with --table1: table1)",
    )
    parser.add_argument("--picture", type=Path, metavar="PNG", help="only draw one scored image as the stages see it")
    parser.add_argument("--stages", default="", help="with --picture: stage folders, such as source,align")
    parser.add_argument("--image", type=int, default=0, help="with --picture: which of the kept images, from 0")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.picture is not None:
        stages = [name for name in arguments.stages.split(",") if name]
        print(f"written: {write_grid(arguments.runs[0], arguments.picture, stages, arguments.image)}")
        return 0
    if arguments.table1:
        _compare(arguments.runs, arguments.out or Path("table1.md"))
        return 0
    runs = [run for run in arguments.runs if not StudyFolder(run).config.is_file()]
    if arguments.out is not None and len(runs) < 2:
        raise ValueError("--out: belongs to a comparison of runs; a single run's page is report.html in its own folder")
    for run in arguments.runs:
        if run not in runs:
            print(table(run))
            print(f"study: {write(run)[-1]}")
            continue
        print_table(run)
        print(f"report: {write_report(run)}")
    if len(runs) > 1:
        _compare(runs, arguments.out or Path("comparison.md"))
    return 0


def _compare(runs: Sequence[Path], out: Path) -> None:
    study = collect(runs)
    print(markdown(study))
    for path in write_study(study, out):
        print(f"written: {path}")
