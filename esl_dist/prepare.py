"""``python -m esl_dist.prepare``: see ``entries/prepare.py``."""

from esl_dist.entries import cli
from esl_dist.entries.prepare import main

if __name__ == "__main__":
    cli.run(main)
