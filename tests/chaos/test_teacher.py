"""The teacher methods killed on two ranks and moved between world sizes: teacher and histograms end the same."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from esl_dist.engine import checkpoint
from tests.chaos.drill import Drill, wait_until

METHODS = ("daformer", "mic-esl-q", "vfm_uda")
OPTIONS = [
    "run.stages=[daformer,'mic:esl-q',vfm_uda]",
    "teacher.steps=6",
    "teacher.labels.tau=0.3",
    "teacher.crop.size=[32,32]",
    "teacher.crop.rare_pixels=40",
    "teacher.crop.rare_crop=10",
    "teacher.select.window=8",
    "teacher.optim.warmup=2",
]


def tensors(drill: Drill, *stages: str) -> dict[str, Tensor]:
    """Of the final checkpoints of these stages, by stage and key."""
    found: dict[str, Tensor] = {}

    def gather(content: Any, path: str) -> None:
        if isinstance(content, Tensor):
            found[path] = content
        elif isinstance(content, dict | list):
            for name, part in content.items() if isinstance(content, dict) else enumerate(content):
                gather(part, f"{path}/{name}")

    for stage in stages:
        newest, problems = checkpoint.newest_valid(drill.run_dir / stage / "checkpoints")
        assert newest is not None, problems
        gather(checkpoint.load(newest)[0], stage)
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_method_killed_ends_with_the_same_bits(tmp_path: Path, data: Path) -> None:
    straight, killed = Drill(tmp_path / "straight", data, OPTIONS), Drill(tmp_path / "killed", data, OPTIONS)
    straight.finish()
    for number, stage in enumerate(METHODS):
        killed.kill(("all", "0", "1")[number], lambda s=stage: killed.reached(3, s))
    killed.finish()
    assert killed.outcome() == straight.outcome()
    ours, theirs = tensors(killed, *METHODS), tensors(straight, *METHODS)
    assert ours.keys() == theirs.keys() and "mic-esl-q/memory/ring" in ours
    assert any(key.startswith("vfm_uda/teacher/") for key in ours)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_ranks_then_one_then_two(tmp_path: Path, data: Path) -> None:
    frozen = [*OPTIONS, "model.bn=frozen", "teacher.optim.warmup=0"]
    straight, moved = Drill(tmp_path / "straight", data, frozen), Drill(tmp_path / "moved", data, frozen)
    straight.finish(2)
    for world, step in ((2, 2), (1, 4)):
        start = moved.start(world, f"optim.accumulate={2 // world}")
        try:
            assert wait_until(lambda k=step: moved.reached(k, METHODS[0]), start), start.tail()
            start.send(signal.SIGTERM, "0")
            assert start.wait(120) == 0, start.tail()
        finally:
            start.end()
    moved.finish(2)
    ours, theirs = tensors(moved, *METHODS), tensors(straight, *METHODS)
    largest = 0.0
    for key, value in theirs.items():
        if key.split("/")[1] in ("segmenter", "teacher"):
            torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-5, msg=lambda m, k=key: f"{k}: {m}")
            largest = max(largest, float((ours[key] - value).abs().max()))
    print(f"2, 1 and 2 ranks: largest difference of a weight {largest:.1e}")
