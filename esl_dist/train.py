"""``python -m esl_dist.train``: see ``entries/train.py``."""

from esl_dist.entries import cli
from esl_dist.entries.train import main

if __name__ == "__main__":
    cli.run(main)
