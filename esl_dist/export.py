"""``python -m esl_dist.export``: see ``entries/export.py``."""

from esl_dist.entries import cli
from esl_dist.entries.export import main

if __name__ == "__main__":
    cli.run(main)
