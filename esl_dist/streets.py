"""``python -m esl_dist.streets``: see ``entries/streets.py``."""

from esl_dist.entries import cli
from esl_dist.entries.streets import main

if __name__ == "__main__":
    cli.run(main)
