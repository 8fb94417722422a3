"""One pass over given samples, and the rule for those that cannot be read."""

from __future__ import annotations

import pytest
import torch

from esl_dist.data import DataError
from esl_dist.data.bad_samples import Bad, BadSamples
from esl_dist.data.loader import inference_batches
from tests.data.test_loader import SIZE, Made


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("count", [0, 1, 4, 7])
def test_inference_reads_every_sample_once_in_batches_of_one_shape(workers: int, count: int) -> None:
    data = Made(10)
    wanted = [(3 * i + 1) % 10 for i in range(count)]
    batches = list(inference_batches(data, wanted, size=SIZE, batch=3, workers=workers, with_labels=True))
    assert [i for batch in batches for i in batch.indices] == wanted
    for batch in batches:
        assert batch.images.shape == (3, 3, 6, 12) and batch.images.dtype == torch.uint8 and batch.labels is not None
        for slot, index in enumerate(batch.indices):
            assert (batch.images[slot] == index).all()
            assert batch.labels[slot].shape == (8, 16 + index) and (batch.labels[slot] == index).all()
        assert not batch.images[len(batch.indices) :].any()
    assert all(batch.labels is None for batch in inference_batches(data, wanted, size=SIZE, batch=3, workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_inference_skips_nothing(workers: int) -> None:
    with pytest.raises(DataError, match=r"^city/004\.png cannot be decoded$"):
        list(inference_batches(Made(10, unreadable=frozenset({4})), range(10), size=SIZE, batch=2, workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_inference_leaves_out_what_cannot_be_read_where_it_is_asked_to(workers: int) -> None:
    data = Made(10, unreadable=frozenset({4, 8, 9}))
    options = {"size": SIZE, "batch": 2, "workers": workers, "with_labels": True, "leave_out": True}
    batches = list(inference_batches(data, range(10), **options))  # type: ignore[arg-type]
    assert [i for batch in batches for i in batch.indices] == [0, 1, 2, 3, 5, 6, 7]
    assert [bad.name for batch in batches for bad in batch.bad] == ["city/004", "city/008", "city/009"]
    assert (batches[2].images[0] == 5).all() and not batches[2].images[1].any() and len(batches[2].labels or ()) == 1


def test_bad_samples_are_counted_once_each() -> None:
    counted, first = BadSamples("target", 1), Bad(1, "a", "a.png is empty")
    assert counted.add([first, first]) == [first] and not counted.add([first])
    counted.check()
    counted.add([Bad(2, "b", "b.png is missing")])
    words = r"^target: 2 unreadable samples, data.bad_samples allows 1; the last: b\.png"
    with pytest.raises(ValueError, match=words):
        counted.check()
