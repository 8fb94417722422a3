"""``python -m esl_dist.bench``: see ``entries/bench.py``."""

from esl_dist.entries import cli
from esl_dist.entries.bench import main

if __name__ == "__main__":
    cli.run(main)
