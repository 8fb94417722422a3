"""A step of each teacher method beside the sum of its forwards and backwards, alone, on the embedded pair's network."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import nn

from esl_dist.benchmarks.common import Peak, apart
from esl_dist.benchmarks.modes import SIZE, noise
from esl_dist.config.load import load_config
from esl_dist.distributed import ddp
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.step import Pair
from esl_dist.methods import stages
from esl_dist.methods.kit import Kit
from esl_dist.methods.passes import cross_entropy
from esl_dist.methods.teacher.step import TeacherStep

WARM_UP = 2
METHODS = {"daformer": (2, 2), "mic": (3, 2), "mic:esl": (3, 2), "vfm_uda": (3, 2)}
"""Passes of the student, each a forward and a backward; forwards without a graph, of the teacher and the reference."""


def run(steps: int = 10) -> dict[str, Any]:
    """CPU seconds of each method's step on one thread (2 + 2 images) and of its passes alone, in turn; peaks of
    memory.
    """
    rows = {name: apart(measure, name, steps) for name in METHODS}
    return {"steps": steps, "methods": rows}


def measure(name: str, steps: int) -> dict[str, Any]:
    """One method, in a process of its own."""
    torch.set_num_threads(1)
    words = [f"run.stages=['{name}']", "optim.batch=2", "teacher.optim.name=sgd", "teacher.labels.margins=none"]
    config = load_config("streets.yaml", words)
    runtime = Runtime(0, 1, 0, 1, torch.device("cpu"), "fp32", 1, 1, True, config.run.timeout_s)
    planned = stages(config)[-1]
    step, _ = planned.method.build(planned, Kit(config, runtime, torch.amp.GradScaler("cpu", enabled=False)))
    assert isinstance(step, TeacherStep)
    network = step.student.segmenter
    passes, forwards = METHODS[name]
    whole: list[float] = []
    alone: list[float] = []
    peak = Peak()
    for number in range(WARM_UP + steps):
        pair = Pair(noise(2 * number), noise(2 * number + 1)._replace(labels=None))
        whole.append(_timed(lambda p=pair: step.step([p]), network))
        alone.append(_timed(lambda p=pair: _alone(step, p, passes, forwards), network))
    sums, taken = alone[WARM_UP:], whole[WARM_UP:]
    return {
        "step_ms": 1e3 * statistics.median(taken),
        "passes_ms": 1e3 * statistics.median(sums),
        "ratio": statistics.median(a / b for a, b in zip(taken, sums, strict=True)),
        "peak_mib": peak.mib(),
    }


def _alone(step: TeacherStep, pair: Pair, passes: int, forwards: int) -> None:
    """The forwards and backwards of a step and nothing else of it."""
    student = step.student
    assert pair.source.labels is not None
    for _ in range(passes):
        said = student.passes.forward(student.segmenter, pair.source.images)
        loss, _ = cross_entropy(said, pair.source.labels, float(pair.source.labels.numel()), (1.0, 0.1), "source")
        student.passes.backward(loss)
    with torch.no_grad():
        for _ in range(forwards):
            student.passes.forward(ddp.inner(student.segmenter), pair.source.images)


def _timed(work: Any, network: nn.Module) -> float:
    network.zero_grad(set_to_none=True)
    began = time.process_time()
    work()
    return time.process_time() - began


def table(results: dict[str, Any]) -> str:
    lines = [
        f"a step on the embedded pair's network, 2 + 2 images of {SIZE[1]}x{SIZE[0]}, one thread, CPU (median of"
        f" {results['steps']}, in turn with its forwards and backwards alone)"
    ]
    for name, row in results["methods"].items():
        lines.append(
            f"{name:12} {row['step_ms']:6.0f} ms, its passes {row['passes_ms']:6.0f} ms, ratio {row['ratio']:.2f},"
            f" peak {row['peak_mib']:.0f} MiB"
        )
    return "\n".join(lines)
