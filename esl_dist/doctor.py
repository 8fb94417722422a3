"""``python -m esl_dist.doctor``: see ``entries/doctor.py``."""

from esl_dist.entries import cli
from esl_dist.entries.doctor import main

if __name__ == "__main__":
    cli.run(main)
