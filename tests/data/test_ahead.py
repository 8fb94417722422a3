"""Reading ahead without processes: a thread that is always a little in front of the caller."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from esl_dist.data.loader import Batch
from esl_dist.data.prefetch import prefetched
from esl_dist.data.workers import Produced


def loaders() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_the_next_items_are_made_while_the_caller_works() -> None:
    asked: list[int] = []

    def slow(number: int) -> int:
        asked.append(number)
        time.sleep(0.05)
        return number

    produced = Produced(slow, start=5, stop=None, workers=0, prefetch=2)
    assert next(produced) == 5
    time.sleep(0.3)
    assert asked == [5, 6, 7]  # two ahead and no further, however long the caller works
    began = time.perf_counter()
    assert next(produced) == 6
    assert time.perf_counter() - began < 0.04
    produced.close()
    produced.close()
    assert not loaders()
    with pytest.raises(StopIteration):
        next(produced)


def test_all_items_come_in_order_and_the_thread_ends_with_them() -> None:
    assert list(Produced(lambda number: number * number, start=1, stop=6, workers=0)) == [1, 4, 9, 16, 25]
    assert not loaders()


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def fails_at_three(number: int) -> int:
        if number == 3:
            raise ValueError("number 3 cannot be read")
        return number

    produced = Produced(fails_at_three, start=1, stop=None, workers=0, prefetch=4)
    assert [next(produced), next(produced)] == [1, 2]
    with pytest.raises(ValueError, match="number 3 cannot be read"):
        next(produced)
    assert not loaders()


def batches(count: int) -> list[Batch]:
    stream = torch.Generator().manual_seed(0)

    def pixels(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, shape, generator=stream, dtype=torch.uint8)

    return [
        Batch(pixels(2, 3, 64, 128), pixels(2, 64, 128) if n % 2 else None, torch.tensor([n, n + 1]), ())
        for n in range(count)
    ]


def test_on_the_cpu_nothing_is_copied() -> None:
    given = iter(batches(2))
    assert prefetched(given, torch.device("cpu")) is given


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_same_bytes_arrive_and_stay() -> None:
    given = batches(12)
    arrived = prefetched(Produced(lambda n: given[n % 12], start=0, stop=None, workers=0), torch.device("cuda"))
    kept = [next(arrived) for _ in range(12)]
    for got, expected in zip(kept, given, strict=True):
        assert got.images.is_cuda and torch.equal(got.images.cpu(), expected.images)
        assert (got.labels is None) == (expected.labels is None)
        assert got.labels is None or expected.labels is None or torch.equal(got.labels.cpu(), expected.labels)
