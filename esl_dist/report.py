"""``python -m esl_dist.report``: see ``entries/report.py``."""

from esl_dist.entries import cli
from esl_dist.entries.report import main

if __name__ == "__main__":
    cli.run(main)
