"""``kill -9`` of all ranks, one rank or the launcher, anywhere in a run: started again, it ends with the same bits.

Fifty of them, or ``ESL_CHAOS_KILLS``.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.drill import Drill, Start, wait_until

VICTIMS = ("all", "0", "1", "launcher")
STAGES = ("initial", "source", "align", "selftrain")


def moments(drill: Drill, draw: random.Random) -> list[tuple[str, Callable[[], Any]]]:
    """Moments of a run in their order: a start-up, steps and checkpoint writes of each stage, its scoring, the
    extraction.
    """
    run, labels = drill.run_dir, drill.run_dir / "pseudo_labels"
    found: list[tuple[str, Callable[[], Any]]] = [("start-up", lambda: True)]
    for stage in STAGES:
        if stage == "selftrain":
            found.append(("extraction", lambda: any((labels / "spool").rglob("*.h5*"))))
            found.append(("label writing", lambda: any((labels / "esl").rglob("*.png*"))))
        step = draw.randint(1, 8)
        found.append((f"step of {stage}", lambda s=stage, k=step: drill.reached(k, s)))
        found.append((f"checkpoint write of {stage}", lambda s=stage: any((run / s).glob("checkpoints/.step_*"))))
        found.append((f"end of {stage}", lambda s=stage: (run / s / "done.json").exists()))
    return found


def interrupt(drill: Drill, moment: str, condition: Callable[[], Any], victims: str, delay: float) -> bool:
    """Start, wait for the moment, kill; False if the run ended before the moment came."""
    start: Start = drill.start()
    try:
        if not wait_until(condition, start):
            assert start.launcher.returncode == 0, start.tail()
            return False
        if moment == "start-up":
            wait_until(lambda: len(start.ranks()) == 2, start)
        time.sleep(delay)
        if not start.send(signal.SIGKILL, victims):
            return False
        start.wait(60)
        left = start.orphans()
        assert not left, f"{left} outlive the kill of {victims} at {moment}:\n{start.tail()}"
        assert not (problems := drill.invalid_checkpoints()), f"kill of {victims} at {moment}: {problems}"
        return True
    finally:
        start.end()


def chain(drill: Drill, draw: random.Random, kills: int) -> Counter[str]:
    """One run that is killed up to ``kills`` times on its way to the end."""
    done: Counter[str] = Counter()
    chosen = moments(drill, draw)
    for number in sorted(draw.sample(range(len(chosen)), kills)):
        moment, condition = chosen[number]
        victims = draw.choice(VICTIMS)
        # A write lasts milliseconds: strike at once. Anything else may have got on for a while.
        delay = 0.0 if "write" in moment else draw.uniform(0, 5.0 if moment == "start-up" else 0.25)
        if interrupt(drill, moment, condition, victims, delay):
            done[moment] += 1
            done[f"victims: {victims}"] += 1
    drill.finish()
    return done


def drills(folder: Path, data: Path, expected: dict[str, Any], kills: int, per_run: int, seed: int) -> Counter[str]:
    """Chains until ``kills`` kills have been survived."""
    draw = random.Random(seed)
    total: Counter[str] = Counter()
    survived = runs = 0
    while survived < kills:
        assert runs < 3 * kills, "the moments to kill at never come"
        drill = Drill(folder / f"chain{runs}", data)
        done = chain(drill, draw, min(per_run, kills - survived))
        outcome = drill.outcome()
        for part, value in expected.items():
            assert outcome[part] == value, f"chain {runs} ({dict(done)}): {part} differ from the uninterrupted run"
        assert not [e for e in drill.events("warning") if "rejected" in e.get("text", "")]
        total += done
        survived += sum(count for name, count in done.items() if not name.startswith("victims"))
        runs += 1
    print(f"{survived} kills in {runs} runs, all bit-identical: {dict(sorted(total.items()))}")
    return total


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills(tmp_path: Path, data: Path, uninterrupted: dict[str, Any]) -> None:
    kills = int(os.environ.get("ESL_CHAOS_KILLS", "50"))
    total = drills(tmp_path, data, uninterrupted, kills=kills, per_run=5, seed=2)
    assert kills < 50 or {f"victims: {victims}" for victims in VICTIMS} <= total.keys()
    assert kills < 50 or (any("write" in name for name in total) and "extraction" in total)
