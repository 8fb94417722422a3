"""The drills in short, for every change: one run that is killed twice, signalled and poisoned on its way to the end.

The long ones are for ``launch/test.sh --all``.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.drill import Drill, fault, signal_during, wait_until


@pytest.mark.timeout(600)
def test_a_run_that_is_hurt_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, data: Path, uninterrupted: dict[str, Any]
) -> None:
    drill = Drill(tmp_path, data)

    def kill(moment: Callable[[], Any], victims: str) -> int:
        """Start, ``kill -9`` at the moment, wait for the end of every process; the launcher's exit code."""
        start = drill.start()
        try:
            assert wait_until(moment, start) and start.send(signal.SIGKILL, victims), start.tail()
            code = start.wait()
            assert not start.orphans() and not drill.invalid_checkpoints()
            return code
        finally:
            start.end()

    def fails(environment: dict[str, str]) -> tuple[int, str]:
        """Start with a fault built in; the launcher's exit code and what was said."""
        start = drill.start(**environment)
        try:
            code = start.wait()
            assert not start.orphans() and not drill.invalid_checkpoints()
            return code, start.log.read_text(errors="replace")
        finally:
            start.end()

    assert kill(lambda: any(e["step"] >= 3 for e in drill.events("train")), "1") != 0
    code, said = fails(signal_during("extract", 1, 4))
    assert code == 0 and "stopping as asked by a signal" in said
    assert not list(drill.run_dir.glob("pseudo_labels/*/thresholds.json"))
    code, said = fails(fault("nan", 1, 5))
    assert code != 0 and "a gradient is not finite" in said
    assert kill(lambda: any((drill.run_dir / "selftrain" / "checkpoints").glob(".step_*")), "all") != 0
    drill.finish()
    assert drill.outcome() == uninterrupted
