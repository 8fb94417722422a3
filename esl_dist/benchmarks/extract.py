"""Cost of pseudo-label extraction beside the published procedure, in one run: CPU per image, peak memory,
re-thresholding.

The forward is left out on both sides: logits at output stride 8 are made beforehand, a few different ones, and used in
turn. Every measurement is a process of its own, so that none warms or fills another's memory. The published procedure
is re-created here from its description: probabilities upsampled by torch, label and entropy of every pixel of the whole
set kept as float64 arrays, per class a mask over everything and a sort, per image and class a mask, PNG.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from esl_dist.benchmarks.common import BATCH, NUM_CLASSES, Peak, apart, make_labels, without_numba
from esl_dist.compiled import cpu_model
from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.pseudo_labels.scores.scorer import scoring
from esl_dist.pseudo_labels.sets.forward import TargetImages

SIZE = (1024, 512)  # width, height
LOGITS = (NUM_CLASSES, 65, 129)
DIFFERENT = 8
SWEEP = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3)


def street_like_logits(seed: int) -> torch.Tensor:
    """float32 ``[19, 65, 129]``: regions of a few classes with a layout prior and fuzzy borders, a network's kind of
    confidence.
    """
    stream = torch.Generator().manual_seed(seed)
    rows = torch.linspace(0, 1, LOGITS[1])[:, None]
    place = torch.rand(
        NUM_CLASSES, 1, 1, generator=torch.Generator().manual_seed(77)
    )  # where in the picture a class likes to be
    common = torch.linspace(2.5, -2.5, NUM_CLASSES)[:, None, None]
    coarse = F.interpolate(
        torch.randn(1, NUM_CLASSES, 9, 17, generator=stream), size=LOGITS[1:], mode="bicubic", align_corners=True
    )[0]
    z = 6.5 * (1.3 * coarse + common - 7 * (rows - place) ** 2) + 0.4 * torch.randn(LOGITS, generator=stream)
    best = z.amax(0)
    return 0.3 * best - 26 * torch.tanh((best - z) / 26)  # no class is further than 26 behind the winner


def table_forward(images: torch.Tensor) -> torch.Tensor:
    """The logits whose number is in the image's first pixel; without a copy where they lie in a row, because no forward
    is measured.
    """
    numbers = [number % DIFFERENT for number in images[:, 0, 0, 0].tolist()]
    if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return _logits()[numbers[0] : numbers[0] + len(numbers)]
    return _logits()[numbers]


_cache: list[torch.Tensor] = []


def _logits() -> torch.Tensor:
    if not _cache:
        _cache.append(torch.stack([street_like_logits(seed) for seed in range(DIFFERENT)]))
    return _cache[0]


def generated_images(number: int) -> TargetImages:
    def batches(indices: Sequence[int]) -> Iterator[tuple[Sequence[int], torch.Tensor]]:
        for start in range(0, len(indices), BATCH):
            part = list(indices[start : start + BATCH])
            images = torch.zeros(BATCH, 3, 8, 8, dtype=torch.uint8)
            images[: len(part), 0, 0, 0] = torch.tensor(part) % DIFFERENT
            yield part, images

    return TargetImages([f"{i:06d}" for i in range(number)], batches, (8, 8))


def ours(number: int, out: Path, nus: Sequence[float] = (0.1,), from_spool: bool = False) -> None:
    """This package's way, one label set for every value of nu."""
    settings = {f"{nu}": PseudoLabelConfig(nu=nu) for nu in nus}
    make_labels(table_forward, generated_images(number), out, settings, SIZE, from_spool=from_spool)


def published(number: int, out: Path) -> None:
    """The published procedure, its memory included."""
    from PIL import Image

    width, height = SIZE
    label, entropy = np.zeros((number, height, width)), np.zeros((number, height, width))
    for i in range(number):
        p = F.interpolate(
            F.softmax(_logits()[i % DIFFERENT][None], 1), size=(height, width), mode="bilinear", align_corners=True
        )
        maps = p[0].numpy().transpose(1, 2, 0)
        label[i] = np.argmax(maps, 2)
        entropy[i] = -np.sum(maps * np.log(maps), 2) / np.log(NUM_CLASSES)
    thresholds = np.zeros(NUM_CLASSES)
    for c in range(NUM_CLASSES):
        values = np.sort(entropy[label == c])
        if len(values):
            thresholds[c] = max(values[min(int(np.round(len(values) * 0.5)), len(values) - 1)], 0.1)
    out.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        kept = label[i].copy()
        for c in range(NUM_CLASSES):
            kept[(entropy[i] > thresholds[c]) & (label[i] == c)] = 255
        Image.fromarray(kept.astype(np.uint8)).save(out / f"{i:06d}.png")


def measure(what: str, number: int, fast: bool = True) -> dict[str, Any]:
    """One measurement in this process: CPU and wall seconds, peak memory above what libraries and logits take."""
    torch.set_num_threads(1)
    if not fast:
        without_numba()
    _logits()
    implementation = scoring("exact").name
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        if what == "sweep":
            ours(number, out)
        else:
            (published if what == "published" else ours)(2, out / "warm")
        peak = Peak()
        cpu, wall = time.process_time(), time.perf_counter()
        if what == "published":
            published(number, out / "labels")
        else:
            ours(number, out, SWEEP if what == "sweep" else (0.1,), from_spool=what == "sweep")
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return {"images": number, "cpu_s": cpu, "wall_s": wall, "peak_mib": peak.mib(), "scores": implementation}


def run(images: int = 60, memory_images: Sequence[int] = (100, 1000, 3000), sweep_images: int = 100) -> dict[str, Any]:
    """Measure everything (a quarter of an hour with the defaults; ``memory_images=()`` and few images for a glance).

    ``published`` is measured at ``images`` and at a third of it for the slope of its memory; ``memory_images`` are this
    package's.
    """
    results: dict[str, Any] = {
        "size": list(SIZE),
        "classes": NUM_CLASSES,
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "torch": torch.__version__,
    }
    results["published"] = [apart(measure, "published", number) for number in (max(images // 3, 2), images)]
    small, large = results["published"]
    results["published_mib_per_image"] = (large["peak_mib"] - small["peak_mib"]) / max(
        large["images"] - small["images"], 1
    )
    results["fast"] = apart(measure, "ours", images)
    results["plain"] = apart(measure, "ours", images, False)
    results["sweep"] = {**apart(measure, "sweep", sweep_images), "values": list(SWEEP)}
    results["memory"] = [apart(measure, "ours", number) for number in memory_images]
    for name in ("fast", "plain"):
        results[f"{name}_times_less_cpu"] = (
            large["cpu_s"] / large["images"] / (results[name]["cpu_s"] / results[name]["images"])
        )
    return results


def table(results: dict[str, Any]) -> str:
    """The figures of :func:`run` as text."""

    def row(name: str, figures: dict[str, Any], ratio: float | None = None) -> str:
        per_image = 1000 * figures["cpu_s"] / figures["images"]
        return f"{name:<42}{figures['images']:>8}{per_image:>14.1f}{figures['peak_mib']:>12.0f}" + (
            "" if ratio is None else f"{ratio:>10.1f}x"
        )

    lines = [
        f"extraction without the forward, {SIZE[0]}x{SIZE[1]}, {NUM_CLASSES} classes, PNGs included",
        f"on {results['cpu']}",
        f"{'':<42}{'images':>8}{'CPU ms/image':>14}{'peak MiB':>12}{'less CPU':>11}",
        *(row("published procedure (re-created)", figures) for figures in results["published"]),
        row(f"esl_dist, {results['fast']['scores']}", results["fast"], results["fast_times_less_cpu"]),
        row(f"esl_dist, {results['plain']['scores']}", results["plain"], results["plain_times_less_cpu"]),
        *(row("esl_dist, memory", figures) for figures in results["memory"]),
        f"published procedure: {results['published_mib_per_image']:.1f} MiB more for every image",
        (
            f"{len(results['sweep']['values'])} values of nu over {results['sweep']['images']} spooled images, PNGs"
            f" written: {results['sweep']['wall_s']:.2f} s ({results['sweep']['cpu_s']:.2f} s CPU)"
        ),
    ]
    return "\n".join(lines)
