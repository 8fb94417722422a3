"""Numbers, replicas and ranks that go bad in a real run: named, bounded, the last good state intact."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.drill import Drill, fault, wait_until

STALL_LIMIT_S = 10


@pytest.mark.slow
def test_a_nan_on_one_rank_stops_the_run_with_the_last_good_state(
    tmp_path: Path, data: Path, uninterrupted: dict[str, Any]
) -> None:
    """In step 12 of the process: source, step 4. Started again without the fault, it ends as if there had been none."""
    drill = Drill(tmp_path, data)
    start = drill.start(**fault("nan", 1, 12))
    try:
        assert start.wait() != 0
        assert "a gradient is not finite" in start.log.read_text() and "guard.non_finite=skip" in start.log.read_text()
        assert not start.orphans()
    finally:
        start.end()
    assert not drill.invalid_checkpoints()
    assert drill.ended(0)["step"] == drill.ended(1)["step"] == 4
    drill.finish()
    assert drill.outcome() == uninterrupted


@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_stops_nothing(
    tmp_path: Path, data: Path, uninterrupted: dict[str, Any]
) -> None:
    """Full while checkpoints of the stage ``source`` are due: said with the space that was needed, and the run ends as
    if it had been there.
    """
    drill = Drill(tmp_path, data)
    start = drill.start(**fault("disk", 0, 10))
    try:
        assert start.wait() == 0, start.tail()
    finally:
        start.end()
    said = start.log.read_text()
    assert "could not be written ([Errno 28] No space left on device); it needs" in said and "Training goes on" in said
    assert not drill.invalid_checkpoints() and drill.outcome() == uninterrupted


@pytest.mark.slow
def test_a_nan_is_skipped_when_asked(tmp_path: Path, data: Path) -> None:
    drill = Drill(tmp_path, data, ["guard.non_finite=skip", "run.stages=[initial]"])
    start = drill.start(**fault("nan", 0, 3))
    try:
        assert start.wait() == 0, start.tail()
    finally:
        start.end()
    assert json.loads((drill.run_dir / "initial" / "done.json").read_text())["step"] == 8


@pytest.mark.slow
def test_a_perturbed_replica_is_found_within_the_interval(tmp_path: Path, data: Path) -> None:
    """Rank 1's weights are moved by 1e-3 after step 3; ``guard.replica_every=2`` (from the smoke configuration) finds
    it at step 4.
    """
    drill = Drill(tmp_path, data, ["run.stages=[initial]"])
    start = drill.start(**fault("perturb", 1, 3))
    try:
        assert start.wait() != 0
        said = start.log.read_text()
        assert "step 4: the weights of segmenter on rank 1 differ from the others" in said, said[-3000:]
        assert not start.orphans()
    finally:
        start.end()


@pytest.mark.slow
def test_a_stalled_rank_ends_the_job_and_is_named(tmp_path: Path, data: Path) -> None:
    """Within the time limit and 30 s; the rank, its line and the collective that the other waits in are named."""
    drill = Drill(tmp_path, data, [f"run.timeout_s={STALL_LIMIT_S}", "run.stages=[initial]"])
    start = drill.start(**fault("stall", 1, 5))
    try:
        assert wait_until(lambda: drill.reached(4), start), start.tail()
        began = time.monotonic()
        assert start.wait(STALL_LIMIT_S + 30) != 0
        seconds = time.monotonic() - began
        assert not start.orphans(10)
    finally:
        start.end()
    said = start.log.read_text()
    assert "rank 1 (pid " in said and "it hangs in tests/chaos/worker.py:" in said, said[-3000:]
    assert "rank 0 waits in collective" in said and "all_reduce" in said
    assert (drill.run_dir / "flight_recorder" / "rank0.json").stat().st_size > 100
    print(f"a stalled rank ended the job after {seconds:.0f} s (limit {STALL_LIMIT_S} s)")
