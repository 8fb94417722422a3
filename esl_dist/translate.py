"""``python -m esl_dist.translate``: see ``entries/translate.py``."""

from esl_dist.entries import cli
from esl_dist.entries.translate import main

if __name__ == "__main__":
    cli.run(main)
