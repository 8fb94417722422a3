"""Pages from folders: ``python -m esl_dist.report RUN`` (or a study's folder) and ``python -m esl_dist.report --table1
RUN RUN … [--out FILE]``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from esl_dist.entries import cli
from esl_dist.reporting.report import terminal_table, write_report
from esl_dist.reporting.study_page import markdown, write_study
from esl_dist.reporting.study_table import collect
from esl_dist.runs import StudyFolder
from esl_dist.studies.results import table, write


def main(argv: Sequence[str] | None = None) -> int:
    """One run: print its table and write its ``report.html``. ``--table1``: print and write the runs' common table."""
    parser = cli.parser("report", "Reports of runs, from their folders alone.", schema=None)
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help="run folder, such as runs/streets, or a study's, such as runs/studies/nu",
    )
    parser.add_argument(
        "--table1",
        action="store_true",
        help="collect the runs into one table: mean and spread over seeds, paired differences",
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="with --table1: where to write; .md, .csv and .html are put in place of its suffix (default: table1)",
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if arguments.out is not None and not arguments.table1:
        raise ValueError("--out: belongs to --table1; a single run's page is report.html in its own folder")
    if arguments.table1:
        study = collect(arguments.runs)
        print(markdown(study))
        for path in write_study(study, arguments.out or Path("table1.md")):
            print(f"written: {path}")
        return 0
    for run in arguments.runs:
        if StudyFolder(run).config.is_file():
            print(table(run))
            print(f"study: {write(run)[-1]}")
            continue
        print(terminal_table(run))
        print(f"report: {write_report(run)}")
    return 0
