"""The share of pixels that two methods label alike, over seeds, and of one method between seeds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.ranks import ROOT


def save(folder: Path, *images: list[int]) -> None:
    (folder / "labels").mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(np.array([image], np.uint8)).save(folder / "labels" / f"{number}.png")


def table(folder: Path, *seeds: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "launch/label_agreement.py", *(str(folder / seed) for seed in seeds)]
    out = ["--out", str(folder / "table.md")]
    return subprocess.run([*command, *out], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    for seed, (first, second) in {"1": ([0, 1, 2, 3], [0, 1, 2, 0]), "2": ([0, 1, 1, 3], [0, 0, 0, 0])}.items():
        save(tmp_path / seed / "source", first, [5, 5, 5, 5])
        save(tmp_path / seed / "mic", second, [5, 5, 5, 5])
        os.utime(tmp_path / seed / "source", (1, 1))  # the older one comes first
    return tmp_path


def test_by_hand(pair: Path) -> None:
    done = table(pair, "1", "2")
    assert done.returncode == 0, done.stderr
    # between methods 7 of 8 and 5 of 8; source between seeds 7 of 8, mic 6 of 8
    rows = ["| | source | mic |", "|---|---|---|", "| source | 87.5 | 75.0 |", "| mic | 75.0 | 75.0 |"]
    assert (pair / "table.md").read_text().splitlines() == rows == done.stdout.splitlines()


def test_what_does_not_belong_together_is_one_line(pair: Path) -> None:
    save(pair / "3" / "source", [0, 1, 2, 3])
    assert "3: other methods than in" in table(pair, "1", "3").stderr
    save(pair / "3" / "mic", [0, 1, 2])
    done = table(pair, "1", "3")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "other images, or at other sizes" in done.stderr
