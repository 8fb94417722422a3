"""``python -m esl_dist.predict``: see ``entries/predict.py``."""

from esl_dist.entries import cli
from esl_dist.entries.predict import main

if __name__ == "__main__":
    cli.run(main)
