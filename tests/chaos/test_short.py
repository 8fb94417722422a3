"""The drills in short, for every change: one run that is killed twice, signalled and poisoned on its way to the end.

The long ones are for ``launch/test.sh --all``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chaos.drill import Drill, fault, signal_during


@pytest.mark.timeout(600)
def test_a_run_that_is_hurt_again_and_again_ends_with_the_same_bits(
    tmp_path: Path, data: Path, uninterrupted: dict[str, Any]
) -> None:
    drill = Drill(tmp_path, data)

    def fails(environment: dict[str, str]) -> tuple[int, str]:
        """Start with a fault built in; the launcher's exit code and what was said."""
        start = drill.start(**environment)
        try:
            code = start.wait()
            assert not start.orphans() and not drill.invalid_checkpoints()
            return code, start.log.read_text(errors="replace")
        finally:
            start.end()

    assert drill.kill("1", lambda: drill.reached(3)) != 0
    code, said = fails(signal_during("extract", 1, 4))
    assert code == 0 and "stopping as asked by a signal" in said
    assert not list(drill.run_dir.glob("pseudo_labels/*/thresholds.json"))
    code, said = fails(fault("nan", 1, 5))
    assert code != 0 and "a gradient is not finite" in said
    assert drill.kill("all", lambda: any((drill.run_dir / "selftrain" / "checkpoints").glob(".step_*"))) != 0
    drill.finish()
    assert drill.outcome() == uninterrupted
