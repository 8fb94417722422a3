"""``bench --what step``: what it prints is what it measured, and a projection is arithmetic that says so."""

from __future__ import annotations

import pytest
import torch

from esl_dist.benchmarks import ceilings, projection, step, variants
from esl_dist.entries import bench

TINY = [
    "model.deeplabv2.layers=[1,1,1,1]",
    "model.deeplabv2.width=4",
    "model.discriminator_width=4",
    "data.source.size=[64,48]",
    "data.target.size=[64,32]",
    "run.threads=1",
    "run.device=cpu",
]
STEP = {
    "stage": "align",
    "batch": 1,
    "gradient_mib": {"segmenter": 100.0, "d_main": 10.0},
    "steps": [
        {"name": "plain fp32", "ms": 400.0},
        {"name": "esl_dist fp32", "ms": 300.0, "phases_ms": {"F forward": 90.0, "F backward": 160.0}},
        {"name": "esl_dist bf16", "ms": 100.0, "phases_ms": {"F forward": 30.0, "F backward": 50.0}},
    ],
}


def test_a_step_is_measured_beside_the_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "matmul_rate", lambda precision, device: 1e11)
    monkeypatch.setattr(ceilings, "copy_rate", lambda device: 1e10)
    results = step.run("align", TINY, seconds=0.0)
    plain, *ours = results["steps"]
    assert [entry["name"] for entry in results["steps"]] == ["plain fp32", "esl_dist fp32", "esl_dist bf16"]
    assert plain["times_faster"] == {"plain fp32": 1.0} and "phases_ms" not in plain
    for entry in ours:
        phases = entry["phases_ms"]
        assert {"data", "F forward", "F backward", "D", "optimiser", "agreement", "losses, rest"} == set(phases)
        assert all(ms > 0 for name, ms in phases.items() if name != "data")
        assert entry["times_faster"]["plain fp32"] == pytest.approx(plain["ms"] / entry["ms"])
        assert entry["mfu"] == pytest.approx(results["tflop_per_step_and_rank"] / (entry["ms"] / 1e3) / 0.1)
    # Twice the forward of both, in fused multiply-adds, and twice that for the backward: known for the stem alone, so
    # only bounded.
    stem = 2 * 4 * 3 * 49 * (24 * 32 + 16 * 32)
    assert results["tflop_per_step_and_rank"] * 1e12 > 2 * stem
    text = step.table(results)
    assert "64x48 + 64x32, batch 1 a rank" in text and "esl_dist bf16: data" in text


@pytest.mark.parametrize("stage", ["source", "mic"])
def test_every_variant_of_every_step_has_its_mfu(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a teacher method, of which there is no plain loop, by its own step's products."""
    monkeypatch.setattr(variants, "_rate", lambda precision, device: 1e11)
    words = [*TINY[:3], "data.source.size=[64,64]", "data.target.size=[64,64]", *TINY[5:], "teacher.optim.name=sgd"]
    lines: list[str] = []
    figures = variants.run(stage, words, ["eager"], 0.0, lines.append)
    (entry,) = figures["variants"]
    assert figures["tflop"] > 0 and entry["mfu"] == pytest.approx(figures["tflop"] / (entry["ms"] / 1e3) / 0.1)
    assert f"{entry['mfu']:.1%}" in lines[-1]


def test_a_variant_that_was_not_captured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of the table must not pass an eager step's time off as a graph's."""
    monkeypatch.setattr(variants, "_rate", lambda precision, device: 1e11)
    monkeypatch.setattr(variants, "on_a_cpu", lambda variant: True)
    lines: list[str] = []
    variants.run("source", TINY, ["captured", "eager"], 0.0, lines.append)
    assert "ran eagerly" not in lines[-2] and lines[-2].startswith("eager")
    assert lines[-1].startswith("captured") and lines[-1].endswith("ran eagerly: there is no GPU")


def test_the_products_of_a_step_are_counted() -> None:
    a, b = torch.randn(3, 4, requires_grad=True), torch.randn(4, 5)
    assert step.counted(lambda: (a @ b).sum().backward()) == 2 * 2 * 3 * 4 * 5  # forward, and the gradient of one


def test_a_projection_is_arithmetic() -> None:
    one, four = projection.project(STEP, [1, 4], link_gb_s=10)
    assert one["all_reduce_ms"] == 0 and one["images_per_s"] == pytest.approx(
        20
    )  # the fastest step: 2 images in 100 ms
    assert one["hours"] == pytest.approx((2 * 120_000 * 0.1 + 2_975 * 0.015) / 3600)
    reduce_ms = 1.5 * 110 * 1.048576 / 10
    assert four["all_reduce_ms"] == pytest.approx(reduce_ms) and reduce_ms < 25  # less than the last backward: hidden
    assert four["hours"] == pytest.approx(one["hours"] / 4) and four["hours_exposed"] > four["hours"]
    slow = projection.project(STEP, [4], link_gb_s=1)[0]
    assert slow["images_per_s"] == pytest.approx(4 * 2 / (0.1 + (10 * reduce_ms - 25) / 1e3))
    assert projection.projection_table([one, four], 10).startswith("PROJECTION, computed and not measured")


def test_an_allreduce_needs_ranks() -> None:
    with pytest.raises(ValueError, match="torchrun --nproc_per_node=N"):
        bench.main(["--what", "allreduce"])
