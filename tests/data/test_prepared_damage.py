"""A prepared file with a flipped bit gives what was written, or is refused; its manifest likewise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from esl_dist.data.prepared import shard
from esl_dist.data.prepared.make import MANIFEST, read_manifest
from esl_dist.data.prepared.shard import DamagedError, Sample
from tests.runs.damage import flips

KEY = {"settings": {"size": [8, 4]}, "first": 0}


def test_flips_in_a_file(tmp_path: Path) -> None:
    dice = np.random.RandomState(1)
    samples = [
        Sample(dice.randint(0, 256, (3, 4, 8)).astype(np.uint8), dice.randint(0, 19, (4, 8)).astype(np.uint8)),
        Sample(np.zeros((3, 4, 8), np.uint8), np.zeros((4, 8), np.uint8), ("b.png is empty", "")),
    ]
    path = tmp_path / "00000.h5"
    shard.write(path, KEY, samples, 2)
    whole, refused = path.read_bytes(), 0
    assert shard.check(path, KEY).unreadable == ["b.png is empty"]
    for number, data in enumerate(flips(whole)):
        flipped = tmp_path / f"{number}.h5"  # opened files are kept
        flipped.write_bytes(data)
        try:
            found = shard.check(flipped, KEY)
            assert found.unreadable == ["b.png is empty"]
            assert (shard.read(flipped, 0, "image") == samples[0].image).all()
            assert (shard.read(flipped, 0, "label") == samples[0].label).all()
        except DamagedError as error:
            refused += 1
            assert flipped.name in str(error)
        flipped.unlink()
    assert refused


def test_a_damaged_manifest_counts_as_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read_manifest(tmp_path) is None
    (tmp_path / MANIFEST).write_text('{"settings": {}, "images_per_file": 2, "bytes": 1, "files": 3}')
    assert read_manifest(tmp_path) is None
