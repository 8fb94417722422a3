"""The benchmark of reading: it runs, compares the same samples, and its table says what it measured."""

from __future__ import annotations

from esl_dist.benchmarks import data


def test_the_benchmark_measures_both_ways() -> None:
    found = data.run(images=4, rounds=1, native=(192, 106), size=(128, 72))
    assert found["prepared_bytes_per_image"] > 3 * 128 * 72 and found["prepare_seconds"] > 0
    assert all(
        found[way]["images_per_second"] > 0 and found[way]["cpu_ms"] > 0
        for way in ("png", "prepared", "png from disk", "prepared from disk")
    )
    text = data.table(found)
    assert "4 images 192x106 with labels, read at 128x72" in text and f"{found['ratio']:.1f}x" in text
    fed = found["feeding"]
    assert fed["thread"]["workers_ms"] == 0 and fed["workers"]["workers_ms"] > 0
    assert [need["gpus"] for need in fed["computed"]] == [1, 4, 8] and "computed, 8 GPU(s) at 30 ms" in text
