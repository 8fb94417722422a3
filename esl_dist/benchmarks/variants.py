"""The step with its switches turned one by one: what each of capture, kernels, overlap and compilation is worth on this
machine.

One variant after the other in one process, those last whose first step takes longest (the plain loop's search, the
compiler); each within its share of a time limit, so that a table comes whatever is slow.
"""

from __future__ import annotations

import dataclasses
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from esl_dist.benchmarks import ceilings
from esl_dist.benchmarks.common import RECORDS
from esl_dist.benchmarks.plain import PlainStep
from esl_dist.benchmarks.step import DIFFERENT, OwnStep, default_config, flops, generated, stage_plan
from esl_dist.config.schema import Config
from esl_dist.distributed.arithmetic import set_arithmetic
from esl_dist.distributed.capture import obstacle, own_stream
from esl_dist.distributed.runtime import Runtime

WARM_STEPS = 8
"""Steps before any is timed: torch tunes, Triton compiles, a graph is captured."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A way to compute the step: a name, options on top of the benchmark's own, and whether it is the plain loop."""

    name: str
    words: tuple[str, ...] = ()
    precision: str = "bf16"
    plain: bool = False


ALL = ("run.kernels=[norm,heads,losses]",)
VARIANTS = (
    Variant("eager", ("run.capture=off", "run.kernels=[]")),
    Variant("captured", ("run.kernels=[]",)),
    Variant("captured norm", ("run.kernels=[norm]",)),
    Variant("captured heads", ("run.kernels=[heads]",)),
    Variant("captured losses", ("run.kernels=[losses]",)),
    Variant("captured all kernels", ALL),
    Variant("captured + overlap", (*ALL, "run.overlap=true")),
    Variant("captured + joint D", (*ALL, "run.join_discriminators=true")),
    Variant("captured + all of these", (*ALL, "run.overlap=true", "run.join_discriminators=true")),
    Variant("eager all kernels", ("run.capture=off", *ALL)),
    Variant("plain fp32", precision="fp32", plain=True),
    Variant("plain tf32", precision="tf32", plain=True),
    Variant("captured + compiled blocks", (*ALL, "run.compile_blocks=true")),
)


def on_a_cpu(variant: Variant) -> bool:
    """Whether the variant means anything without a GPU."""
    return variant.name in ("plain fp32", "eager")


def run(
    stage: str,
    words: Sequence[str],
    names: Sequence[str] = (),
    seconds: float = 10.0,
    report: Callable[[str], None] = print,
    keep: Callable[[dict[str, Any]], None] = lambda figures: None,
) -> dict[str, Any]:
    """Measure the variants called ``names`` (all, if none are), each for at most about ``seconds``, and report
    each as it comes; ``keep`` gets the figures so far."""
    config = default_config(words)
    figures: dict[str, Any] = {"stage": stage, "batch": config.optim.batch, "torch": torch.__version__, "variants": []}
    counted = 0
    with Runtime.start(config.run, RECORDS) as runtime:
        figures["device"] = ceilings.device_name(runtime.device)
        report(f"step of {stage}, batch {config.optim.batch}, {figures['device']}")
        report(heading())
        for variant in VARIANTS:
            if (names and variant.name not in names) or (runtime.device.type == "cpu" and not on_a_cpu(variant)):
                continue
            try:
                entry = _measure(variant, stage, words, runtime, seconds)
                counted = counted or flops(stage, config, runtime)
                entry["mfu"] = 1e3 * counted / entry["ms"] / _rate(entry["precision"], runtime.device)
            except (RuntimeError, ValueError) as error:  # one variant's failure is a line of the table
                entry = {"name": variant.name, "error": (str(error).splitlines() or [type(error).__name__])[0]}
            figures["variants"].append(entry)
            report(row(entry))
            keep(figures)
            gc.collect()
            if runtime.device.type == "cuda":
                torch.cuda.empty_cache()
    figures["tflop"] = counted / 1e12
    return figures


_rates: dict[str, float] = {}


def _rate(precision: str, device: torch.device) -> float:
    if precision not in _rates:
        _rates[precision] = ceilings.matmul_rate(precision, device)
    return _rates[precision]


def _measure(variant: Variant, stage: str, words: Sequence[str], runtime: Runtime, seconds: float) -> dict[str, Any]:
    config = default_config([*words, *variant.words])
    device = runtime.device
    precision = variant.precision if device.type == "cuda" else "fp32"
    set_arithmetic(not variant.plain, precision)
    began = time.perf_counter()
    with own_stream(device, config.run.capture != "off"):
        step, own = _step(variant, stage, config, dataclasses.replace(runtime, precision=precision))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        index = 0
        for _ in range(WARM_STEPS if device.type == "cuda" else 1):
            step(index)
            index += 1
        ceilings.wait(device)
        entry: dict[str, Any] = {"name": variant.name, "precision": precision, "first_s": time.perf_counter() - began}
        taken: list[float] = []
        until = time.perf_counter() + seconds
        while len(taken) < 3 or (time.perf_counter() < until and len(taken) < 20):
            started = time.perf_counter()
            for _ in range(_ROUND if device.type == "cuda" else 1):
                step(index)
                index += 1
            ceilings.wait(device)
            taken.append((time.perf_counter() - started) / (_ROUND if device.type == "cuda" else 1))
        entry["ms"] = 1e3 * statistics.median(taken)
        entry["fastest_ms"] = 1e3 * min(taken)
        if device.type == "cuda":
            entry["peak_mib"] = torch.cuda.max_memory_allocated(device) / (1 << 20)
            entry |= profiled(lambda: step(index), device)
        if own is not None and config.run.capture != "off":
            entry["not_captured"] = not_captured(own, config, runtime)
    return entry


_ROUND = 5
"""Steps between two looks at the clock."""


def _step(
    variant: Variant, stage: str, config: Config, runtime: Runtime
) -> tuple[Callable[[int], object], OwnStep | None]:
    pairs = generated(config, config.optim.batch, stage == "selftrain")
    if not variant.plain:
        own = OwnStep(stage, config, runtime, pairs)
        return own.step, own
    plain = PlainStep(stage_plan(stage, config), config, runtime)
    images = [plain.images(pair) for pair in pairs]
    return lambda index: plain.step(index, pairs[index % DIFFERENT], images[index % DIFFERENT]), None


def not_captured(own: OwnStep, config: Config, runtime: Runtime) -> str:
    """Why the steps that were timed ran eagerly; empty if they did not."""
    captured = own.updater.device_step.captured
    return captured.refused if captured else obstacle(config.run.capture, runtime, own.stage)


def profiled(work: Callable[[], object], device: torch.device, steps: int = 2, most: int = 40) -> dict[str, Any]:
    """Kernels of one ``work`` and the milliseconds that they keep the device busy, and those that take longest by
    name.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(steps):
            work()
        ceilings.wait(device)
    spans: list[tuple[float, float]] = []
    by_name: dict[str, list[float]] = {}
    for name, begin, end in _kernels(profile):
        spans.append((begin, end))
        by_name.setdefault(name, []).append(end - begin)
    slowest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:most]
    return {
        "kernels": len(spans) // steps,
        "busy_ms": _union(spans) / 1e3 / steps,
        "slowest": [{"name": name[:160], "ms": sum(t) / 1e3 / steps, "calls": len(t) // steps} for name, t in slowest],
    }


def _kernels(profile: Any) -> Iterator[tuple[str, float, float]]:
    """Name, begin and end in microseconds of everything that ran on the device."""
    for event in profile.events():
        if event.device_type.name == "CUDA":
            yield event.name, event.time_range.start, event.time_range.end


def _union(spans: list[tuple[float, float]]) -> float:
    """Length of what the spans cover together: kernels of two streams overlap."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def heading() -> str:
    return f"{'':<32}{'ms':>9}{'fastest':>9}{'busy ms':>9}{'kernels':>9}{'MFU':>8}{'peak MiB':>10}{'first s':>9}"


def row(entry: dict[str, Any]) -> str:
    """One line of the table."""
    if "error" in entry:
        return f"{entry['name']:<32} failed: {entry['error']}"
    cells = (
        (f"{entry['ms']:.1f}", 9),
        (f"{entry['fastest_ms']:.1f}", 9),
        (f"{entry['busy_ms']:.1f}" if "busy_ms" in entry else "-", 9),
        (str(entry.get("kernels", "-")), 9),
        (f"{entry['mfu']:.1%}" if "mfu" in entry else "-", 8),
        (f"{entry['peak_mib']:.0f}" if "peak_mib" in entry else "-", 10),
        (f"{entry['first_s']:.1f}", 9),
    )
    eagerly = f"  ran eagerly: {entry['not_captured']}" if entry.get("not_captured") else ""
    return f"{entry['name']:<32}" + "".join(f"{text:>{width}}" for text, width in cells) + eagerly


def table(figures: dict[str, Any]) -> str:
    """The figures of :func:`run` as text."""
    title = f"step of {figures['stage']}, batch {figures['batch']}, {figures['device']}, torch {figures['torch']}"
    return "\n".join([title, heading(), *(row(entry) for entry in figures["variants"])])
