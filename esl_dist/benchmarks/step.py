"""The package's own training step beside the plain loop of ``plain.py``, alternating in one process: time, phases,
FLOPs, memory.

Images and labels are generated and lie in memory (on a GPU they are prefetched as in training), so that the step is
measured and not the disk: ``--what data`` measures that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, cycle
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from esl_dist import kernels
from esl_dist.benchmarks import ceilings
from esl_dist.benchmarks.common import RECORDS, Peak, apart
from esl_dist.benchmarks.plain import PlainStep
from esl_dist.config.load import load_config
from esl_dist.config.schema import Config, DomainConfig
from esl_dist.data.loader import Batch
from esl_dist.data.prefetch import prefetched
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.arithmetic import set_arithmetic
from esl_dist.distributed.capture import obstacle, own_stream
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.loop import new_scaler
from esl_dist.engine.step import Losses, Pair
from esl_dist.engine.update import Updater
from esl_dist.labels import protocol
from esl_dist.methods import Stage, stages
from esl_dist.methods.kit import Kit
from esl_dist.monitor.profile import phase, seconds_by_phase

STAGES = ("source", "align", "selftrain")
TEACHERS = ("daformer", "mic", "vfm_uda")
"""Of which there is no plain loop: for the step's switches alone, with images of one size."""
PHASES = {"forward": "F forward", "backward": "F backward", "discriminator": "D", "all-reduce": "agreement"}
"""Phases of a step that have another name in the table."""
DIFFERENT = 4
"""Generated pairs, used in turn."""


def default_config(words: Sequence[str], file: str | None = None) -> Config:
    """ADVENT as published (on a CPU at 512x256), random weights; ``words`` are options on top."""
    small = [] if torch.cuda.is_available() else ["data.source.size=[512,256]", "data.target.size=[512,256]"]
    own = [] if file else ["protocol=ours", "model.checkpoint=''", *small]
    return load_config(file or "configs/gta5_cityscapes/advent.yaml", [*own, *words])


def stage_plan(stage: str, config: Config) -> Stage:
    """The stage as a run would plan it, for its step alone."""
    before = [word for word in ("source", "align") if word != stage]
    words = (*before, "selftrain") if stage == "selftrain" else (stage,)
    planned = stages(dataclasses.replace(config, run=dataclasses.replace(config.run, stages=words)))[-1]
    return dataclasses.replace(planned, steps=1000)


def generated(config: Config, batch: int, target_labels: bool, seed: int = 0) -> list[Pair]:
    """Noise and blocks of labels; a twentieth of the pixels is ignored, as many in every map."""
    stream = torch.Generator().manual_seed(seed)
    classes = protocol(config.data.classes).num_classes

    def one(domain: DomainConfig, labelled: bool) -> Batch:
        width, height = domain.size
        images = torch.randint(0, 256, (batch, 3, height, width), generator=stream, dtype=torch.uint8)
        blocks = torch.randint(
            0, classes, (batch, -(-height // 16), -(-width // 16)), generator=stream, dtype=torch.uint8
        )
        labels = blocks.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :height, :width].contiguous()
        labels[:, :, : width // 20] = 255
        pinned = (t.pin_memory() if torch.cuda.is_available() else t for t in (images, labels))
        return Batch(next(pinned), next(pinned) if labelled else None, torch.arange(batch), ())

    return [Pair(one(config.data.source, True), one(config.data.target, target_labels)) for _ in range(DIFFERENT)]


class OwnStep:
    """The stage and the update that a run would use."""

    def __init__(self, stage: str, config: Config, runtime: Runtime, pairs: Sequence[Pair]) -> None:
        planned, scaler = stage_plan(stage, config), new_scaler(runtime)
        self.stage, recipe = planned.method.build(planned, Kit(config, runtime, scaler))
        why = obstacle(config.run.capture, runtime, self.stage)
        cuda = runtime.device.type == "cuda"
        chosen = kernels.of_steps(config.run.kernels, captured=not why) if cuda else frozenset()
        self.updater = Updater(self.stage, recipe, config.guard, scaler, "" if why else stage, chosen)
        self.source = prefetched(_numbered(pair.source for pair in pairs), runtime.device)
        self.target = prefetched(_numbered(pair.target for pair in pairs if pair.target), runtime.device)

    @phase("data")
    def pair(self) -> Pair:
        return Pair(next(self.source), next(self.target) if self.stage.needs_target else None)

    def step(self, index: int) -> Losses:
        return self.updater.step(index, [self.pair()])[0]

    def gradient_bytes(self) -> dict[str, int]:
        """Bytes of one gradient of each network."""
        return {
            name: sum(p.numel() * p.element_size() for p in ddp.inner(n).parameters() if p.requires_grad)
            for name, n in self.stage.networks.items()
        }

    @contextlib.contextmanager
    def uncaptured(self) -> Iterator[None]:
        """Inside, the step is taken kernel by kernel: a graph has no phases."""
        captured, self.updater.device_step.captured = self.updater.device_step.captured, None
        try:
            yield
        finally:
            self.updater.device_step.captured = captured

    def step_alone(self, index: int) -> Losses:
        """A step whose gradients stay on their rank: what it is faster than ``step``, the all-reduce keeps from
        overlapping.
        """
        with contextlib.ExitStack() as stack:
            for network in self.stage.networks.values():
                stack.enter_context(ddp.sync_if(network, False))
            return self.step(index)


def _numbered(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Again and again, at the positions of an endless stream."""
    for number, batch in enumerate(cycle(batches)):
        first = number * len(batch.images)
        yield batch._replace(positions=tuple(range(first, first + len(batch.images))))


@dataclasses.dataclass
class Contestant:
    """One way to compute the step: ``plain`` or ``ours``, in a precision."""

    name: str
    precision: str
    deterministic: bool
    step: Callable[[int], object]
    own: OwnStep | None = None
    seconds: list[float] = dataclasses.field(default_factory=list)

    def measure(self, first: int, steps: int, device: torch.device) -> None:
        set_arithmetic(self.deterministic, self.precision)
        ceilings.wait(device)
        began = time.perf_counter()
        for index in range(first, first + steps):
            self.step(index)
        ceilings.wait(device)
        self.seconds.append((time.perf_counter() - began) / steps)


def contestants(stage: str, config: Config, runtime: Runtime, precisions: Sequence[str]) -> list[Contestant]:
    """The plain loop (on CUDA also in TF32, and both with cuDNN's search), then ours."""
    pairs = generated(config, config.optim.batch, stage == "selftrain")
    plain = PlainStep(stage_plan(stage, config), config, runtime)
    images = [plain.images(pair) for pair in pairs]
    found = []
    for precision in ("fp32", "tf32") if runtime.device.type == "cuda" else ("fp32",):
        found.append(
            Contestant(
                f"plain {precision}",
                precision,
                False,
                lambda i: plain.step(i, pairs[i % DIFFERENT], images[i % DIFFERENT]),
            )
        )
    for precision in precisions:
        for deterministic in (True, False) if runtime.device.type == "cuda" else (True,):
            own = OwnStep(stage, config, dataclasses.replace(runtime, precision=precision), pairs)
            name = f"esl_dist {precision}" + (", not deterministic" if not deterministic else "")
            found.append(Contestant(name, precision, deterministic, own.step, own))
    return found


def peak_mib(stage: str, words: Sequence[str], file: str | None, which: str) -> float:
    """Memory of three steps of the contestant of that name in this process, above what it held before it was built; on
    a GPU the device's.
    """
    config = default_config(words, file)
    with Runtime.start(config.run, RECORDS) as runtime, own_stream(runtime.device, config.run.capture != "off"):
        peak = Peak()
        kind, precision = which.split()[:2]
        set_arithmetic("not deterministic" not in which and kind != "plain", precision)
        pairs = generated(config, config.optim.batch, stage == "selftrain")
        if kind == "plain":
            plain = PlainStep(stage_plan(stage, config), config, runtime)
            images = plain.images(pairs[0])
            for index in range(3):
                plain.step(index, pairs[0], images)
        else:
            own = OwnStep(stage, config, dataclasses.replace(runtime, precision=precision), pairs)
            for index in range(8 if runtime.device.type == "cuda" else 3):  # until its graph is captured
                own.step(index)
        return (
            torch.cuda.max_memory_allocated(runtime.device) / (1 << 20) if runtime.device.type == "cuda" else peak.mib()
        )


def flops(stage: str, config: Config, runtime: Runtime) -> int:
    """Floating-point operations of a step: convolutions and matrix products, forward and backward, of the plain loop;
    of a method that has none of its own step, kernel by kernel.
    """
    pairs = generated(config, config.optim.batch, stage == "selftrain")
    if stage in STAGES:
        plain = PlainStep(stage_plan(stage, config), config, runtime)
        images = plain.images(pairs[0])
        return counted(lambda: plain.step(0, pairs[0], images))
    eager = dataclasses.replace(config, run=dataclasses.replace(config.run, capture="off", kernels=()))
    own = OwnStep(stage, eager, runtime, pairs)
    return counted(lambda: own.step(0))


def counted(work: Callable[[], object]) -> int:
    """Floating-point operations of ``work``: its convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def phases(own: OwnStep, first: int, steps: int, device: torch.device) -> dict[str, float]:
    """Milliseconds of a step by phase, the device waited for at every border, so that they add up to a little more than
    a step takes.
    """

    def clock() -> float:
        ceilings.wait(device)
        return time.perf_counter()

    with own.uncaptured(), seconds_by_phase(clock) as times:
        began = clock()
        for index in range(first, first + steps):
            own.step(index)
        total = clock() - began
    found = {PHASES.get(name, name): 1e3 * value / steps for name, value in times.items()}
    return {**found, "losses, rest": 1e3 * total / steps - sum(found.values())}


def run(
    stage: str = "align",
    words: Sequence[str] = (),
    file: str | None = None,
    precisions: Sequence[str] = (),
    rounds: int = 5,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Measure; every rank of a start by torchrun takes part, and the figures are rank 0's.

    Args:
        seconds: begin no turn after so many, in place of ``rounds``, and look at no memory, which takes a process for
            every way. One turn is timed whatever it takes.
    """
    config = default_config(words, file)
    with Runtime.start(config.run, RECORDS) as runtime, own_stream(runtime.device, config.run.capture != "off"):
        cuda = runtime.device.type == "cuda"
        measured = contestants(stage, config, runtime, precisions or (("bf16", "fp32") if cuda else ("fp32", "bf16")))
        steps, index = (20 if seconds is None else 5) if cuda else 1, 0
        until = time.monotonic() + (seconds or 0.0)
        for turn in count():  # the first two turns allocate, tune and are forgotten
            late = turn == rounds + 2 if seconds is None else time.monotonic() > until
            if collectives.all_sum(int(late)) and turn > (0 if seconds is None else 2):
                break
            for contestant in measured:
                contestant.measure(index, steps, runtime.device)
            index += steps
            if turn == 1:
                for contestant in measured:
                    contestant.seconds.clear()
        images = (1 if stage == "source" else 2) * config.optim.batch * runtime.world
        tflop = flops(stage, config, runtime) / 1e12
        rates = {
            precision: ceilings.matmul_rate(precision, runtime.device)
            for precision in dict.fromkeys(c.precision for c in measured)
        }
        results: dict[str, Any] = {
            "stage": stage,
            "objective": stage_plan(stage, config).settings.get("objective", "none"),
            "sizes": [list(config.data.source.size), list(config.data.target.size)],
            "batch": config.optim.batch,
            "ranks": runtime.world,
            "device": ceilings.device_name(runtime.device),
            "torch": torch.__version__,
            "tflop_per_step_and_rank": tflop,
            "matmul_tflop_s": {precision: rate / 1e12 for precision, rate in rates.items()},
            "copy_gb_s": ceilings.copy_rate(runtime.device) / 1e9,
            "steps": [],
        }
        for contestant in measured:
            set_arithmetic(contestant.deterministic, contestant.precision)
            median = statistics.median(contestant.seconds)
            entry: dict[str, Any] = {
                "name": contestant.name,
                "ms": 1e3 * median,
                "images_per_s": images / median,
                "mfu": 1e12 * tflop / median / rates[contestant.precision],
            }
            entry["times_faster"] = {
                plain.name: statistics.median(p / own for p, own in zip(plain.seconds, contestant.seconds, strict=True))
                for plain in measured
                if plain.own is None
            }
            if contestant.own:
                entry["phases_ms"] = phases(contestant.own, index, max(steps // 2, 2), runtime.device)
                if runtime.world > 1:
                    entry["all_reduce_exposed_ms"] = 1e3 * (
                        median - ceilings.seconds(partial(contestant.own.step_alone, index), runtime.device, 3)
                    )
            results["steps"].append(entry)
        own = next(c.own for c in measured if c.own)
        results["gradient_mib"] = {name: size / (1 << 20) for name, size in own.gradient_bytes().items()}
        if runtime.world > 1:
            results["bus_gb_s"] = ceilings.bus_rate(max(own.gradient_bytes().values()) // 4, runtime.device) / 1e9
    if seconds is None and results["ranks"] == 1:
        for entry in results["steps"]:
            entry["peak_mib"] = apart(peak_mib, stage, list(words), file, entry["name"].replace(",", ""))
    return results


def table(results: dict[str, Any]) -> str:
    """The figures of :func:`run` as text."""
    sizes = " + ".join(f"{w}x{h}" for w, h in results["sizes"][: 1 if results["stage"] == "source" else 2])
    ceiling = ", ".join(f"{precision} {rate:.3g}" for precision, rate in results["matmul_tflop_s"].items())
    plain = [entry["name"] for entry in results["steps"] if "phases_ms" not in entry]
    lines = [
        (
            f"one step of {results['stage']} ({results['objective']}), {sizes}, batch {results['batch']} a rank,"
            f" {results['ranks']} rank(s) on {results['device']}"
        ),
        (
            f"{results['tflop_per_step_and_rank']:.3g} TFLOP a step and rank; matmul {ceiling} TFLOP/s; copy"
            f" {results['copy_gb_s']:.1f} GB/s"
        ),
        f"{'':<30}{'ms':>9}{'images/s':>10}{'MFU':>7}{'peak MiB':>10}"
        + "".join(f"{'x ' + name:>14}" for name in plain),
    ]
    for entry in results["steps"]:
        memory = f"{entry['peak_mib']:.0f}" if "peak_mib" in entry else "-"
        ratios = "".join(f"{entry['times_faster'][name]:>14.2f}" for name in plain)
        lines.append(
            f"{entry['name']:<30}{entry['ms']:>9.1f}{entry['images_per_s']:>10.2f}{entry['mfu']:>7.1%}{memory:>10}{ratios}"
        )
    for entry in results["steps"]:
        if "phases_ms" in entry:
            exposed = (
                f"; all-reduce not overlapped {entry['all_reduce_exposed_ms']:.1f} ms"
                if "all_reduce_exposed_ms" in entry
                else ""
            )
            lines.append(
                f"{entry['name']}: "
                + ", ".join(f"{name} {ms:.1f} ms" for name, ms in entry["phases_ms"].items())
                + exposed
            )
    if "bus_gb_s" in results:
        lines.append(f"all-reduce of the largest gradient: bus bandwidth {results['bus_gb_s']:.2f} GB/s")
    return "\n".join(lines)
