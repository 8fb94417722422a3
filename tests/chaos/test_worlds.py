"""Four ranks, then two, then one, then four again, with the same global batch: no sample lost or repeated, the same
weights to 1e-5.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from esl_dist.engine import checkpoint
from tests.chaos.drill import Drill, wait_until

# Frozen statistics: a batch norm that trains sees the batch of its own rank, so its numbers depend on the world by
# nature.
OPTIONS = ["model.bn=frozen", "run.stages=[initial,align]", "eval.bn_statistics=[target]"]
WORLDS = (4, 2, 1, 4)


@pytest.mark.slow
def test_a_run_moves_between_world_sizes(tmp_path: Path, data: Path) -> None:
    straight = Drill(tmp_path / "straight", data, OPTIONS)
    straight.finish(4)
    moved = Drill(tmp_path / "moved", data, OPTIONS)
    for world, step in zip(WORLDS[:3], (2, 4, 6), strict=True):
        start = moved.start(world, f"optim.accumulate={4 // world}")
        try:
            assert wait_until(lambda k=step: moved.reached(k, "align"), start), start.tail()
            assert start.send(signal.SIGTERM, "0")
            assert start.wait(120) == 0, start.tail()
            assert not (moved.run_dir / "align" / "done.json").exists(), "it ended before it was stopped"
        finally:
            start.end()
    moved.finish(WORLDS[3])
    steps = [(e["stage"], e["step"]) for e in moved.events("train")]
    assert steps == [(e["stage"], e["step"]) for e in straight.events("train")]
    largest: dict[str, float] = {}
    for stage in ("initial", "align"):
        ours, theirs = (
            checkpoint.load(checkpoint.newest_valid(drill.run_dir / stage / "checkpoints")[0])[0]
            for drill in (moved, straight)
        )  # type: ignore[arg-type]
        for network in [name for name in theirs if name in ("segmenter", "d_main", "d_aux")]:
            for name, weight in theirs[network].items():
                torch.testing.assert_close(
                    ours[network][name], weight, rtol=1e-5, atol=1e-5, msg=lambda m, n=name, s=stage: f"{s} {n}: {m}"
                )
                difference = (ours[network][name] - weight).abs().max().item()
                largest[network] = max(largest.get(network, 0.0), difference)
    print(f"worlds {WORLDS}: largest difference of a weight: {largest}")


@pytest.mark.slow
def test_three_ranks_killed_end_with_the_same_bits(tmp_path: Path, data: Path) -> None:
    """From three ranks on the bits of a sum depend on more than its terms."""
    straight, killed = Drill(tmp_path / "straight", data), Drill(tmp_path / "killed", data)
    straight.finish(3)
    for stage in ("align", "selftrain"):
        killed.kill("all", lambda s=stage: killed.reached(3, s), ranks=3)
    killed.finish(3)
    assert killed.outcome() == straight.outcome()
