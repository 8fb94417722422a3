"""Benchmarks beside what they beat, in one run: ``python -m esl_dist.bench --what data|extract|extract-whole|evaluate|modes [--images N] [--out FILE]``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from esl_dist.benchmarks import data, evaluate, extract, extract_whole, modes
from esl_dist.config import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table, and write the figures as JSON if asked."""
    parser = argparse.ArgumentParser(prog="esl_dist.bench", description="Measure this machine; quote ratios of one run, from an otherwise quiet machine.")
    parser.add_argument("--what", required=True, choices=("data", "extract", "extract-whole", "evaluate", "modes"))
    parser.add_argument("--images", type=int, help="images (of modes: steps) to measure on (default: as in the README)")
    parser.add_argument("--ranks", type=int, default=2, help="processes of extract-whole")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args(argv)
    figures: dict[str, Any]
    if arguments.what == "data":
        figures = data.run(arguments.images or 32)
        text = data.table(figures)
    elif arguments.what == "extract":
        figures = extract.run(arguments.images or 60)
        text = extract.table(figures)
    elif arguments.what == "extract-whole":
        figures = extract_whole.whole(arguments.images or 3000, arguments.ranks)
        text = extract_whole.table(figures, extract_whole.computed())
    elif arguments.what == "modes":
        figures = modes.run(arguments.images or 20)
        text = modes.table(figures)
    else:
        figures = evaluate.run(arguments.images or 500)
        text = evaluate.table(figures)
    print(text)
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    cli.run(main)
