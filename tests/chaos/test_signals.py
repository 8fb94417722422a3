"""SIGTERM to one rank, to all, to the launcher: all ranks stop at the same step with exit code 0, and the same command
goes on exactly.
"""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.drill import Drill, signal_during, wait_until


@pytest.mark.parametrize(
    ("victims", "number"),
    [("1", signal.SIGTERM), ("all", signal.SIGUSR1), ("launcher", signal.SIGTERM)],
)
@pytest.mark.slow
def test_all_ranks_stop_at_the_same_step(
    tmp_path: Path, data: Path, uninterrupted: dict[str, Any], victims: str, number: int
) -> None:
    drill = Drill(tmp_path, data)
    start = drill.start()
    try:
        assert wait_until(lambda: drill.reached(2, "source"), start)
        assert start.send(number, victims)
        code = start.wait(90)
        assert code == 0 or victims == "launcher", start.tail()  # torchrun itself reports its own SIGTERM
        assert not start.orphans()
    finally:
        start.end()
    first, second = drill.ended(0), drill.ended(1)
    assert first == second and first["code"] == 0
    assert first["step"] < 8 or (drill.run_dir / "source" / "done.json").exists()
    saved = [
        path.name
        for path in drill.run_dir.glob("*/checkpoints/step_*")
        if int(path.name.removeprefix("step_")) == first["step"]
    ]
    assert saved, "the step that they stopped at was not saved"
    drill.finish()
    assert drill.outcome() == uninterrupted


# A rank scores 2 images a stage and, before labels are made, 4 source images under three statistics: the 19th image is
# the last stage's first.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("during", "rank", "call", "reached"),
    [("extract", 1, 4, "spool"), ("write", 0, 3, "esl"), ("evaluate", 1, 19, "selftrain/done.json")],
)
def test_a_signal_outside_training_is_acted_on_there(
    tmp_path: Path, data: Path, uninterrupted: dict[str, Any], during: str, rank: int, call: int, reached: str
) -> None:
    drill = Drill(tmp_path, data)
    start = drill.start(**signal_during(during, rank, call))
    try:
        assert start.wait(90) == 0, start.tail()
    finally:
        start.end()
    assert "stopping as asked by a signal" in start.log.read_text()
    assert drill.ended(0)["code"] == drill.ended(1)["code"] == 0
    assert list(drill.run_dir.glob(f"**/{reached}"))
    assert not (drill.run_dir / "pseudo_labels" / "esl" / "thresholds.json").exists() or during == "evaluate"
    assert not (drill.run_dir / "selftrain" / "metrics-running.json").exists()
    drill.finish()
    assert drill.outcome() == uninterrupted


@pytest.mark.slow
def test_restarts_bring_a_run_back_by_themselves(tmp_path: Path, data: Path, uninterrupted: dict[str, Any]) -> None:
    """``torchrun --max-restarts``: one rank is killed twice, the same launcher ends the run."""
    drill = Drill(tmp_path, data)
    start = drill.start(2, launcher=("--max-restarts=3",))
    try:
        for stage in ("source", "selftrain"):
            assert wait_until(lambda s=stage: drill.reached(3, s), start), start.tail()
            assert start.send(signal.SIGKILL, "1")
        assert start.wait() == 0, start.tail()
        assert not start.orphans(10)
    finally:
        start.end()
    assert drill.outcome() == uninterrupted


@pytest.mark.slow
def test_a_second_start_in_a_folder_that_is_in_use_is_refused(tmp_path: Path, data: Path) -> None:
    drill = Drill(tmp_path, data, ["run.stages=[initial]", "initial.steps=100000"])
    first = drill.start(1)
    try:
        assert wait_until(lambda: drill.events("train"), first)
        holder = first.ranks()[0]
        second = drill.start(1)
        try:
            assert second.wait(90) != 0
            assert f"in use by pid {holder} on host" in second.tail()
        finally:
            second.end()
        assert first.launcher.poll() is None
    finally:
        first.end()
