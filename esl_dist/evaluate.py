"""``python -m esl_dist.evaluate``: see ``entries/evaluate.py``."""

from esl_dist.entries import cli
from esl_dist.entries.evaluate import main

if __name__ == "__main__":
    cli.run(main)
