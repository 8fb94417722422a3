"""Round trips, retention, resume over ranks, the kept sample of schema version 1."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from esl_dist import atomic
from esl_dist.engine import checkpoint
from esl_dist.runs import manifest
from tests.engine import sample
from tests.ranks import run_ranks


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, 240, sample.state(), sample.META, keep=2)
    assert path == tmp_path / "step_00000240"
    assert checkpoint.verify(path) == []
    state, meta = checkpoint.load(path)
    assert sample.equal(state, sample.state())
    assert meta["step"] == 240 and meta["elapsed"] == 12.5 and meta["code_version"]
    assert names(tmp_path) == ["step_00000240"]


def test_the_sample_of_schema_version_1_stays_readable() -> None:
    found, rejected = checkpoint.newest_valid(sample.FOLDER)
    assert found is not None and not rejected
    assert json.loads((found / "manifest.json").read_text())["schema_version"] == 1
    state, meta = checkpoint.load(found)
    assert sample.equal(state, sample.state())
    assert {key: meta[key] for key in sample.META} == sample.META and meta["step"] == sample.STEP


def test_a_later_schema_is_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as future:
        future.setattr(manifest, "SCHEMA_VERSION", manifest.SCHEMA_VERSION + 1)
        path = checkpoint.save(tmp_path, 1, sample.state(), {}, keep=1)
    assert "later release" in checkpoint.verify(path)[0] and "update" in checkpoint.verify(path)[0]


def test_nothing_pickled_is_executed(tmp_path: Path) -> None:
    """A hashed, valid folder whose tensor file holds a pickled call: refused by torch, not run."""
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    path = checkpoint.save(tmp_path, 1, {"segmenter": Evil()}, {}, keep=1)
    assert checkpoint.verify(path) == []
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        checkpoint.load(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("keep", "best", "left"), [(1, None, [50]), (2, None, [40, 50]), (2, 20, [20, 40, 50]), (3, 50, [30, 40, 50])]
)
def test_retention_keeps_the_newest_and_the_best(tmp_path: Path, keep: int, best: int | None, left: list[int]) -> None:
    for step in (10, 20, 30, 40, 50):
        checkpoint.save(tmp_path, step, {"segmenter": {"w": torch.ones(2)}}, {}, keep)
        if step == best:
            checkpoint.mark_best(tmp_path, step, 0.5)
    assert [name for name in names(tmp_path) if name.startswith("step")] == [f"step_{step:08d}" for step in left]
    assert checkpoint.best(tmp_path) == ((best, 0.5) if best else None)


def test_a_rejected_checkpoint_never_pushes_a_valid_one_out(tmp_path: Path) -> None:
    """Step 40 is damaged, the run went on from 30: saving 35 must keep 35, although 40 is the larger number."""
    for step in (30, 40):
        checkpoint.save(tmp_path, step, sample.state(), {}, keep=2)
    (tmp_path / "step_00000040" / "segmenter.pt").write_bytes(b"")
    checkpoint.save(tmp_path, 35, sample.state(), {}, keep=1)
    assert names(tmp_path) == ["step_00000035"]
    # And coming to 40 again replaces a damaged 40.
    checkpoint.save(tmp_path, 40, sample.state(), {}, keep=2)
    (tmp_path / "step_00000040" / "segmenter.pt").write_bytes(b"")
    checkpoint.save(tmp_path, 40, sample.state(), {}, keep=2)
    assert checkpoint.newest_valid(tmp_path) == (tmp_path / "step_00000040", [])


def test_weights_sha256_sees_names_types_shapes_and_bits_but_not_order() -> None:
    weights = {"a": torch.zeros(2, 3), "b": torch.ones(4)}
    digest = checkpoint.weights_sha256(weights)
    assert digest == checkpoint.weights_sha256(dict(reversed(weights.items())))
    assert digest == checkpoint.weights_sha256({"a": torch.zeros(3, 2).t(), "b": torch.ones(4)})
    others = (
        {"a": torch.zeros(3, 2), "b": torch.ones(4)},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": torch.ones(4)},
        {"a": -torch.zeros(2, 3), "b": torch.ones(4)},
        {"a": torch.zeros(2, 3), "c": torch.ones(4)},
        {"a": torch.zeros(2, 3), "b": torch.ones(4).bfloat16()},
    )
    digests = {checkpoint.weights_sha256(other) for other in others}
    assert len(digests) == len(others) and digest not in digests


def test_a_snapshot_does_not_follow_the_training(tmp_path: Path) -> None:
    network = torch.nn.Linear(3, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    writer = checkpoint.Writer(tmp_path, keep=1)
    copy = writer.snapshot({"segmenter": network.state_dict(), "rates": [1.0, (2, "text")]})
    with torch.no_grad():
        network.weight.zero_()
    writer.submit(7, copy, {})
    writer.require(7)
    state, _ = checkpoint.load(tmp_path / "step_00000007")
    assert sample.equal(state["segmenter"], before) and state["rates"] == [1.0, (2, "text")]


def test_the_step_does_not_wait_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, real = threading.Event(), atomic.sync_file

    def slow(fd: int) -> None:
        assert gate.wait(30)
        real(fd)

    monkeypatch.setattr(atomic, "sync_file", slow)
    writer = checkpoint.Writer(tmp_path, keep=1, background=True)
    writer.submit(1, sample.state(), {})  # returns although nothing can reach the disk yet
    assert checkpoint.newest_valid(tmp_path) == (None, [])
    gate.set()
    writer.require(1)
    assert checkpoint.newest_valid(tmp_path)[0] == tmp_path / "step_00000001"


@pytest.mark.parametrize("background", [True, False])
def test_a_programming_error_in_the_writer_is_not_swallowed(tmp_path: Path, background: bool) -> None:
    writer = checkpoint.Writer(tmp_path, keep=1, background=background)
    with pytest.raises(Exception, match="JSON serializable"):
        writer.submit(1, sample.state(), {"not json": object()})
        writer.wait()
    assert names(tmp_path) == []


def resume_on_a_rank(folder: str) -> list[Any]:
    path, rejected = checkpoint.resume(Path(folder))
    return [str(path), rejected]


def test_rank_0_decides_and_all_ranks_hear_the_same(tmp_path: Path) -> None:
    for step in (10, 20):
        checkpoint.save(tmp_path, step, sample.state(), {}, keep=2)
    (tmp_path / "step_00000020" / "optim.pt").unlink()
    (tmp_path / ".step_00000030.tmp-99").mkdir()
    first, second = run_ranks(2, "tests.engine.test_checkpoint:resume_on_a_rank", str(tmp_path))
    assert first == second
    assert first[0] == str(tmp_path / "step_00000010")
    assert len(first[1]) == 1 and "step_00000020" in first[1][0] and "optim.pt" in first[1][0]
    assert names(tmp_path) == ["step_00000010", "step_00000020"]
