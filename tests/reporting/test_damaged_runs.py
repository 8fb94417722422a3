"""A run folder with flipped bits, of this release or an earlier one, is reported or refused in one line."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from esl_dist.reporting.record import read_run
from esl_dist.reporting.terminal import terminal_table
from tests.runs.damage import flips

FILES = (
    "metrics.jsonl",
    "config.yaml",
    "source/done.json",
    "source/metrics-running.json",
    "source/checkpoints/step_00000240/manifest.json",
    "pseudo_labels/esl/thresholds.json",
)


@pytest.mark.parametrize("name", FILES)
def test_a_run_of_an_earlier_release_under_flips(run_maker: Callable[..., Path], tmp_path: Path, name: str) -> None:
    run = run_maker(tmp_path / "run")
    path = run / name
    whole = path.read_bytes()
    for data in itertools.islice(flips(whole), 25):
        path.write_bytes(data)
        try:
            read_run(run)
            terminal_table(run)
        except ValueError as error:
            assert len(str(error).splitlines()) == 1, error
