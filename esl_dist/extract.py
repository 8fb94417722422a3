"""``python -m esl_dist.extract``: see ``entries/extract.py``."""

from esl_dist.entries import cli
from esl_dist.entries.extract import main

if __name__ == "__main__":
    cli.run(main)
