"""``python -m esl_dist.tune``: see ``entries/tune.py``."""

from esl_dist.entries import cli
from esl_dist.entries.tune import main

if __name__ == "__main__":
    cli.run(main)
