"""How many pixels get the same label from two methods, where there is no truth to score them by: a table as Markdown.

python launch/label_agreement.py SEED… --out FILE. Each SEED is a folder with one folder per method, the same ones in
all, whose ``labels/*.png`` are what ``esl_dist predict`` wrote of the same images. A cell is the share of all pixels,
in %, mean over the seeds; on the diagonal, of one method with another seed (mean over the pairs).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np
from PIL import Image


def labels(folder: Path) -> np.ndarray:
    """All label maps below ``folder/labels`` one after the other, uint8."""
    files = sorted((folder / "labels").rglob("*.png"))
    if not files:
        raise ValueError(f"{folder}: no labels/*.png")
    return np.concatenate([np.asarray(Image.open(file)).ravel() for file in files])


def agreement(seeds: list[Path]) -> tuple[list[str], np.ndarray]:
    """Methods, in the order of their folders' times, and the table ``[methods, methods]`` in %.

    Raises:
        ValueError: seeds of other methods, or images of other sizes or numbers.
    """
    methods = [p.name for p in sorted(seeds[0].iterdir(), key=lambda p: p.stat().st_mtime) if p.is_dir()]
    for seed in seeds[1:]:
        if sorted(p.name for p in seed.iterdir() if p.is_dir()) != sorted(methods):
            raise ValueError(f"{seed}: other methods than in {seeds[0]}")
    found = {(seed, method): labels(seed / method) for seed in seeds for method in methods}
    if len({len(pixels) for pixels in found.values()}) > 1:
        raise ValueError("the methods labelled other images, or at other sizes")
    table = np.full((len(methods), len(methods)), np.nan)
    for i, j in itertools.product(range(len(methods)), repeat=2):
        if i != j:
            pairs = [(found[seed, methods[i]], found[seed, methods[j]]) for seed in seeds]
        else:
            pairs = list(itertools.combinations([found[seed, methods[i]] for seed in seeds], 2))
        if pairs:
            table[i, j] = 100 * np.mean([np.mean(one == other) for one, other in pairs])
    return methods, table


def markdown(methods: list[str], table: np.ndarray) -> str:
    lines = ["| | " + " | ".join(methods) + " |", "|---" * (len(methods) + 1) + "|"]
    for method, row in zip(methods, table, strict=True):
        lines.append(f"| {method} | " + " | ".join("–" if np.isnan(v) else f"{v:.1f}" for v in row) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seeds", nargs="+", type=Path, metavar="SEED")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    try:
        text = markdown(*agreement(arguments.seeds))
    except (OSError, ValueError) as error:
        print(f"label_agreement: {error}", file=sys.stderr)
        return 2
    arguments.out.write_text(text, encoding="utf-8")
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
