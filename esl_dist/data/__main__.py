"""``python -m esl_dist.data``: see ``entries/data.py``."""

from esl_dist.entries import cli
from esl_dist.entries.data import main

if __name__ == "__main__":
    cli.run(main)
