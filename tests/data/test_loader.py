"""The order of samples, the stream of micro-batches and the pass of inference: the same for every rank count, worker
count and restart.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from esl_dist.config.schema import DomainConfig
from esl_dist.data import DataError, open_dataset
from esl_dist.data.dataset import Dataset, FolderDataset
from esl_dist.data.loader import Batch, Order, TrainStream, View, inference_batches
from esl_dist.data.sampler import index_at
from tests.data import disk

SIZE = (12, 6)


@dataclass(frozen=True)
class Made:
    """A data set in memory: every pixel of sample i is i, except for samples that are made to fail."""

    count: int
    labelled: bool = True
    unreadable: frozenset[int] = frozenset()
    crashes: frozenset[int] = frozenset()
    names: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(f"city/{i:03d}" for i in range(self.count)))

    def __len__(self) -> int:
        return self.count

    def size(self, index: int) -> tuple[int, int]:
        return (16 + index, 8)

    def image(self, index: int) -> np.ndarray:
        if index in self.unreadable:
            raise DataError(f"{self.names[index]}.png cannot be decoded")
        if index in self.crashes:
            raise MemoryError("no memory")
        return np.full((8, 16 + index, 3), index, np.uint8)

    def label(self, index: int) -> np.ndarray:
        return np.full((8, 16 + index), index, np.uint8)


def stream(data: Made, **options: object) -> TrainStream:
    return stream_of({"seed": 5, "batch": 2, **options}, data)


def stream_of(options: Mapping[str, object], data: Dataset) -> TrainStream:
    """A stream by the names of its options, wherever they belong."""
    parts: dict[type, dict[str, object]] = {View: {"size": SIZE}, Order: {}}
    for kind, own in parts.items():
        own |= {name: value for name, value in options.items() if name in kind.__dataclass_fields__}  # type: ignore[attr-defined]
    more = {name: value for name, value in options.items() if not any(name in own for own in parts.values())}
    return TrainStream(data, View(**parts[View]), Order(**parts[Order]), **more)  # type: ignore[arg-type]


def take(data: Made, count: int, **options: object) -> list[Batch]:
    opened = stream(data, **options)
    try:
        return [next(opened) for _ in range(count)]
    finally:
        opened.close()


def same(a: list[Batch], b: list[Batch]) -> bool:
    def equal(x: torch.Tensor | None, y: torch.Tensor | None) -> bool:
        return (x is None) == (y is None) and (x is None or y is None or torch.equal(x, y))

    return len(a) == len(b) and all(
        equal(x.images, y.images) and equal(x.labels, y.labels) and equal(x.indices, y.indices) and x.bad == y.bad
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("length", [1, 2, 7, 100])
def test_every_epoch_is_a_permutation(length: int) -> None:
    epochs = [[index_at(3, e * length + i, length) for i in range(length)] for e in range(4)]
    assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    if length == 100:
        assert len({tuple(epoch) for epoch in epochs}) == 4
        assert [index_at(4, i, length) for i in range(length)] != epochs[0]


def test_the_order_never_changes() -> None:
    """Written down once: a run that is resumed by a later version goes on where it was."""
    assert [index_at(1, position, 10) for position in range(20)] == [
        9,
        8,
        7,
        0,
        6,
        4,
        5,
        1,
        3,
        2,
        5,
        9,
        1,
        0,
        8,
        7,
        2,
        3,
        4,
        6,
    ]


def test_places_in_an_epoch_are_fair() -> None:
    first = Counter(index_at(seed, 0, 8) for seed in range(4000))
    assert max(abs(first[i] - 500) for i in range(8)) < 80


def test_what_a_batch_holds() -> None:
    batch = take(Made(9), 1)[0]
    assert batch.images.dtype == torch.uint8 and batch.images.shape == (2, 3, 6, 12) and batch.labels is not None
    assert batch.labels.dtype == torch.uint8 and batch.labels.shape == (2, 6, 12)
    assert batch.indices.dtype == torch.int64 and batch.bad == ()
    for slot, index in enumerate(batch.indices.tolist()):
        assert (batch.images[slot] == index).all() and (batch.labels[slot] == index).all()


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_samples_of_a_step_follow_the_published_formula(world: int, accumulate: int) -> None:
    data, batch = Made(11), 2
    group = world * batch * accumulate
    for rank in range(world):
        found = take(data, 4 * accumulate, world=world, rank=rank, accumulate=accumulate, batch=batch)
        for number, got in enumerate(found):
            t, a = divmod(number, accumulate)
            expected = [index_at(5, t * group + (a * world + rank) * batch + j, 11) for j in range(batch)]
            assert got.indices.tolist() == expected


def test_two_ranks_see_what_one_rank_with_two_micro_batches_sees() -> None:
    """Step by step, mirrored and blurred pixels included."""
    data = Made(10)
    options = {"mirror": 0.5, "blur": 0.5}
    ranks = [take(data, 12, world=2, rank=rank, **options) for rank in range(2)]
    alone = take(data, 24, accumulate=2, **options)
    for step in range(12):
        together = [ranks[rank][step] for rank in range(2)]
        assert same(together, alone[2 * step : 2 * step + 2])


def test_a_resumed_stream_goes_on_where_it_was() -> None:
    data = Made(10)
    options = {"accumulate": 3, "mirror": 0.5, "blur": 0.5, "world": 2, "rank": 1}
    whole = take(data, 15, **options)
    assert same(take(data, 6, start_step=3, **options), whole[9:])
    assert same(take(data, 6, start_step=3, workers=2, **options), whole[9:])


@pytest.mark.filterwarnings(
    "ignore:This DataLoader will create"
)  # more workers than this machine has cores, on purpose
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_change_nothing(workers: int) -> None:
    data = Made(10, unreadable=frozenset({4}))
    options = {"mirror": 0.5, "blur": 0.5, "accumulate": 2}
    alone, helped = take(data, 20, **options), take(data, 20, workers=workers, **options)
    assert same(alone, helped) and any(batch.bad for batch in alone)


def test_no_labels_where_none_are_wanted() -> None:
    assert all(batch.labels is None for batch in take(Made(4, labelled=False), 3, labels=False))
    with pytest.raises(ValueError, match="have no labels to train on"):
        stream(Made(4, labelled=False))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_sample_is_replaced_and_named(workers: int) -> None:
    data = Made(6, unreadable=frozenset({2, 3}))
    batches = take(data, 9, workers=workers)
    wanted = [index_at(5, position, 6) for position in range(18)]
    found = [i for batch in batches for i in batch.indices.tolist()]
    replacement = {2: 4, 3: 4}
    assert found == [replacement.get(i, i) for i in wanted]
    named = [bad.reason for batch in batches for bad in batch.bad]
    # Sample 2's replacement, 3, is unreadable too: both are named.
    assert Counter(named) == {"city/002.png cannot be decoded": 3, "city/003.png cannot be decoded": 6}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_set_that_cannot_be_read_at_all_is_one_line(workers: int) -> None:
    with pytest.raises(DataError, match=r"city/\d+\.png cannot be decoded \(and 5 samples") as raised:
        take(Made(6, unreadable=frozenset(range(6))), 1, workers=workers)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_any_other_error_is_not_survived_and_names_the_sample(workers: int) -> None:
    data = Made(3, crashes=frozenset({1}))
    with pytest.raises(RuntimeError, match="city/001: MemoryError: no memory"):
        take(data, 3, workers=workers)
    with pytest.raises(RuntimeError, match="city/001: MemoryError: no memory"):
        list(inference_batches(data, range(3), size=SIZE, batch=2, workers=workers))


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to count processes")
def test_close_leaves_no_process() -> None:
    before = children()
    opened = stream(Made(10), workers=2)
    next(opened)
    started = children() - before
    assert len(started) == 2
    opened.close()
    opened.close()
    assert not started & children()
    with pytest.raises(StopIteration):
        next(opened)
    unfinished = inference_batches(Made(10), range(10), size=SIZE, batch=1, workers=2)
    next(unfinished)
    unfinished.close()  # type: ignore[attr-defined]
    assert not children() - before - started


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the workers")
def test_a_signal_to_the_group_does_not_end_the_workers() -> None:
    """A scheduler signals every process; the trainer then still has to finish its step."""
    before = children()
    opened = stream(Made(10), workers=2)
    try:
        next(opened)
        for pid in children() - before:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        time.sleep(0.2)
        for _ in range(12):
            next(opened)
        assert (
            signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGINT} == set()
        )  # the trainer itself hears them
    finally:
        opened.close()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find the workers")
def test_a_worker_that_is_killed_is_an_error_not_a_hang() -> None:
    before = children()
    opened = stream(Made(10), workers=1)
    try:
        next(opened)
        worker = next(iter(children() - before))
        with pytest.raises(RuntimeError, match=r"ended unexpectedly|killed by signal"):
            os.kill(worker, signal.SIGKILL)
            for _ in range(10):
                next(opened)
    finally:
        opened.close()


def labelled_folder(root: Path, names: tuple[str, ...], pseudo: Path) -> object:
    for index, name in enumerate(names):
        disk.image(root / f"images/{name}.png", (16, 8), index)
        disk.grey(pseudo / f"{name}.png", disk.ids([index, 255], SIZE))
    return open_dataset(DomainConfig(dataset="gta5", root=".", labelled=False), str(root), "19")


def test_pseudo_labels_are_paired_by_name(tmp_path: Path) -> None:
    """A label too many, sorted between the others, must shift nothing."""
    data = labelled_folder(tmp_path / "d", ("a/1", "a/2", "b/1"), tmp_path / "labels")
    disk.grey(tmp_path / "labels/a/10.png", disk.ids([17], SIZE))
    found = TrainStream(data, View(SIZE, label_dir=tmp_path / "labels"), Order(0, 3))  # type: ignore[arg-type]
    batch = next(found)
    assert batch.labels is not None
    for slot, index in enumerate(batch.indices.tolist()):
        assert set(batch.labels[slot].flatten().tolist()) == {index, 255}


@pytest.mark.parametrize("workers", [0, 1])
def test_weights_move_with_their_labels(tmp_path: Path, workers: int) -> None:
    names = ("a/1", "a/2", "b/1")
    data = labelled_folder(tmp_path / "d", names, tmp_path / "labels")
    stream = np.random.RandomState(0)
    for index, name in enumerate(names):
        label = stream.randint(0, 19, (24, 40)).astype(np.uint8)  # resized to SIZE, nearest neighbour
        disk.grey(tmp_path / f"labels/{name}.png", label)
        disk.grey(tmp_path / f"weights/{name}.png", (10 * label + index).astype(np.uint8))
    folders = {"label_dir": tmp_path / "labels", "weight_dir": tmp_path / "weights"}
    opened = TrainStream(data, View(SIZE, mirror=0.5, **folders), Order(0, 3), workers=workers)  # type: ignore[arg-type]
    plain = TrainStream(data, View(SIZE, mirror=0.5, label_dir=tmp_path / "labels"), Order(0, 3))  # type: ignore[arg-type]
    try:
        for _ in range(4):
            batch, without = next(opened), next(plain)
            assert (
                batch.labels is not None
                and batch.weights is not None
                and without.weights is None
                and without.labels is not None
            )
            assert (
                torch.equal(batch.labels, without.labels) and batch.labels.dtype == batch.weights.dtype == torch.uint8
            )
            assert torch.equal(batch.weights, 10 * batch.labels + batch.indices.view(-1, 1, 1).to(torch.uint8))
    finally:
        opened.close()
        plain.close()


def test_a_missing_weight_is_named_at_once(tmp_path: Path) -> None:
    data = labelled_folder(tmp_path / "d", ("a/1", "b/1"), tmp_path / "labels")
    with pytest.raises(ValueError, match=r"weights: 2 of 2 pseudo-labels are missing, a/1\.png first"):
        folders = {"label_dir": tmp_path / "labels", "weight_dir": tmp_path / "weights"}
        TrainStream(data, View(SIZE, **folders), Order(0, 1))  # type: ignore[arg-type]


def test_a_missing_pseudo_label_is_named_at_once(tmp_path: Path) -> None:
    data = labelled_folder(tmp_path / "d", ("a/1", "a/2", "b/1"), tmp_path / "labels")
    (tmp_path / "labels/a/2.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 3 pseudo-labels are missing, a/2\.png first"):
        TrainStream(data, View(SIZE, label_dir=tmp_path / "labels"), Order(0, 1))  # type: ignore[arg-type]


def test_truncated_files_on_disk_are_replaced(tmp_path: Path) -> None:
    names = tuple(f"{i:05d}" for i in range(6))
    for i, name in enumerate(names):
        disk.image(tmp_path / f"images/{name}.png", (64, 48), i)
        disk.palette(tmp_path / f"labels/{name}.png", disk.ids([7, 8], (64, 48)))
    for name in ("images/00001.png", "labels/00003.png"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-30])
    (tmp_path / "images/00004.png").write_bytes(b"")
    data = open_dataset(DomainConfig(dataset="gta5", root="."), str(tmp_path), "19")
    opened = TrainStream(data, View(SIZE), Order(0, 6))
    batch = next(opened)
    assert sorted(batch.indices.tolist()) == [0, 2, 2, 5, 5, 5]
    for file in ("00001.png cannot be decoded", "labels/00003.png cannot be decoded", "00004.png is empty"):
        assert any(file in bad.reason for bad in batch.bad)


def test_what_goes_to_a_worker_can_be_sent(tmp_path: Path) -> None:
    """Where workers are spawned and not forked (Python 3.14, macOS), the data set itself is sent to them."""
    for i in range(2):
        disk.image(tmp_path / f"RGB/{i}.png", (16, 8), i)
        disk.synthia_label(tmp_path / f"GT/LABELS/{i}.png", disk.ids(range(23)))
    data = open_dataset(DomainConfig(dataset="synthia", root="."), str(tmp_path), "16")
    loader = torch.utils.data.DataLoader(_Labels(data), batch_size=None, num_workers=1, multiprocessing_context="spawn")  # type: ignore[arg-type]
    assert [item.tolist() for item in loader] == [data.label(i).tolist() for i in range(2)]


@dataclass
class _Labels:
    data: FolderDataset

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.data.label(index))
