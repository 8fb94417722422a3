"""Thousands of steps with the tracker down: memory and file descriptors stay flat."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.chaos.drill import Drill, wait_until

STEPS = int(os.environ.get("ESL_CHAOS_SOAK", "2000"))
MB_PER_1000_STEPS = 1.0


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def last_step(metrics: Path) -> int:
    """From the end of the file: reading all of it would be the test's own leak."""
    with open(metrics, "rb") as file:
        file.seek(max(0, metrics.stat().st_size - 4096))
        steps = [json.loads(line)["step"] for line in file.read().splitlines()[1:-1] if b'"event": "train"' in line]
    return max(steps, default=0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_memory_and_descriptors_stay_flat_with_the_tracker_down(tmp_path: Path, data: Path) -> None:
    """20,000 steps by ``ESL_CHAOS_SOAK=20000``; nobody listens at the tracker's address."""
    options = [
        "run.stages=[initial]",
        f"initial.steps={STEPS}",
        "run.log_every=5",
        "checkpoint.every=50",
        "tracking.mlflow=true",
        "tracking.uri=http://127.0.0.1:9",
    ]
    drill = Drill(tmp_path, data, options)
    start = drill.start(1)
    samples: list[tuple[int, float, int]] = []
    try:
        assert wait_until(lambda: drill.events("train"), start), start.tail()
        pid = start.ranks()[0]
        while start.launcher.poll() is None:
            try:
                samples.append(
                    (last_step(drill.run_dir / "metrics.jsonl"), resident_mb(pid), len(os.listdir(f"/proc/{pid}/fd")))
                )
            except OSError:
                break
            time.sleep(0.5)
        assert start.wait(120) == 0, start.tail()
    finally:
        start.end()
    # Without the first fifth, in which caches fill, and the end, in which networks of the scoring come.
    steps, memory, descriptors = np.array([s for s in samples if STEPS / 5 < s[0] < STEPS - 10], float).T
    assert len(steps) > 10
    slope = float(np.polyfit(steps / 1000, memory, 1)[0])
    print(
        f"{STEPS} steps with the tracker down: {slope:+.2f} MB per 1,000 steps,"
        f" {descriptors.min():.0f}-{descriptors.max():.0f} descriptors"
    )
    assert slope < MB_PER_1000_STEPS
    assert (
        descriptors.max() - descriptors.min() <= 8
        and abs(np.median(descriptors[: len(descriptors) // 3]) - np.median(descriptors[-len(descriptors) // 3 :])) <= 2
    )
