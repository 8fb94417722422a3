"""A step of each teacher method beside the sum of its forwards and backwards, alone: on the embedded pair's network,
and HRDA's and VFM-UDA++'s on small ones of their own kind.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from esl_dist.benchmarks import ceilings
from esl_dist.benchmarks.common import Peak, apart
from esl_dist.benchmarks.modes import SIZE, noise
from esl_dist.benchmarks.step import counted
from esl_dist.config.load import load_config
from esl_dist.distributed.runtime import Runtime
from esl_dist.engine.step import Pair
from esl_dist.methods import stages
from esl_dist.methods.draws import Draws
from esl_dist.methods.kit import Kit
from esl_dist.methods.teacher.distil import Distil
from esl_dist.methods.teacher.ingredients import Ingredient, Source
from esl_dist.methods.teacher.step import TeacherStep
from esl_dist.models.adapter.distil import build_distillation

WARM_UP = 2
METHODS = {
    "daformer": "",
    "mic": "",
    "mic:esl": "",
    "vfm_uda": "",
    "hrda": "gta5_cityscapes/hrda.yaml",
    "vfm_uda_plus": "gta5_cityscapes/vfm_uda_plus_b.yaml",
}
"""Stages, with the experiment whose network they are for, made tiny; the embedded pair's own where there is none."""


def run(steps: int = 10) -> dict[str, Any]:
    """CPU seconds of each method's step on one thread (2 + 2 images) and of its passes alone, in turn, and the step's
    share of the rate of a matrix product; peaks of memory of either, each in a process of its own.
    """
    rows = {}
    for name in METHODS:
        peaks = {f"{what}_mib": apart(peak_of, name, what)["mib"] for what in ("step", "passes")}
        rows[name] = apart(measure, name, steps) | peaks
    return {"steps": steps, "methods": rows}


def measure(name: str, steps: int) -> dict[str, Any]:
    """One method's time."""
    step = _step(name)
    whole: list[float] = []
    alone: list[float] = []
    for number in range(WARM_UP + steps):
        pair = _pair(number)
        whole.append(_timed(lambda p=pair: step.step([p]), step))
        alone.append(_timed(lambda p=pair: _alone(step, p), step))
    sums, taken = alone[WARM_UP:], whole[WARM_UP:]
    arithmetic, median = counted(lambda: step.step([_pair(0)])), statistics.median(taken)
    return {
        "gflop": arithmetic / 1e9,
        "mfu": arithmetic / median / ceilings.matmul_rate("fp32", torch.device("cpu")),
        "step_ms": 1e3 * median,
        "passes_ms": 1e3 * statistics.median(sums),
        "ratio": statistics.median(a / b for a, b in zip(taken, sums, strict=True)),
    }


def peak_of(name: str, what: str) -> dict[str, Any]:
    """MiB of two steps, or of two steps' passes, above the networks' own."""
    step = _step(name)
    peak = Peak()
    for number in range(2):
        pair = _pair(number)
        _timed(lambda p=pair: step.step([p]) if what == "step" else _alone(step, p), step)
    return {"mib": peak.mib()}


def _pair(number: int) -> Pair:
    return Pair(noise(2 * number), noise(2 * number + 1)._replace(labels=None))


def _step(name: str) -> TeacherStep:
    torch.set_num_threads(1)
    words = [f"run.stages=['{name}']", "optim.batch=2", "teacher.optim.name=sgd", "teacher.labels.margins=none"]
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference.pth"
        torch.save(build_distillation("tiny", 8, 1).reference.encoder.state_dict(), reference)
        words += ["teacher.distil.encoder=tiny", f"teacher.distil.reference={reference}"]
        words += _network_of(METHODS[name]) if METHODS[name] else []
        config = load_config("streets.yaml", words)
        runtime = Runtime(0, 1, 0, 1, torch.device("cpu"), "fp32", 1, 1, True, config.run.timeout_s)
        planned = stages(config)[-1]
        step, _ = planned.method.build(planned, Kit(config, runtime, torch.amp.GradScaler("cpu", enabled=False)))
    assert isinstance(step, TeacherStep)
    return step


def _network_of(experiment: str) -> list[str]:
    model = load_config(experiment).model
    own = [f"model.name={model.name}", f"model.hrda={str(model.hrda).lower()}", f"model.{model.name}.encoder=tiny"]
    decoder = getattr(getattr(model, model.name), "decoder", "")
    return [*own, f"model.{model.name}.decoder={decoder}"] if decoder else own


def _alone(step: TeacherStep, pair: Pair) -> None:
    """The forwards and backwards of a step and nothing else of it: of the student for every ingredient, of the teacher
    for every view, of the frozen networks.
    """
    passes, images = step.student.passes, pair.source.images
    for number, ingredient in enumerate(step.ingredients):
        draws = Draws(f"pass {number}", 0, pair.source.positions)
        passes.backward(_loss(step, ingredient, pair, draws))
        if isinstance(ingredient, Source) and ingredient.distance:
            passes.features(ingredient.distance.reference, images)
    with step.teacher.labelling() as network:
        for _ in range(1 + step.mirror):
            passes.forward(network, images)


def _loss(step: TeacherStep, ingredient: Ingredient, pair: Pair, draws: Draws) -> torch.Tensor:
    student = step.student
    assert pair.source.labels is not None
    keys = student.passes.keys(student.segmenter, draws)
    said = student.passes.forward(student.segmenter, pair.source.images, isinstance(ingredient, Distil), keys)
    if not isinstance(ingredient, Distil):
        labels = pair.source.labels
        return student.cross_entropy(said, labels, float(labels.numel()), "alone")[0]
    with torch.no_grad():
        ingredient.reference(pair.source.images.float() / 255)
    made: torch.Tensor = ingredient.head(said.features)
    return made.mean()


def _timed(work: Any, step: TeacherStep) -> float:
    for network in step.networks.values():
        network.zero_grad(set_to_none=True)
    began = time.process_time()
    work()
    return time.process_time() - began


def table(results: dict[str, Any]) -> str:
    lines = [
        f"a step, 2 + 2 images of {SIZE[1]}x{SIZE[0]}, one thread, CPU (median of {results['steps']}, in turn with its"
        " forwards and backwards alone)"
    ]
    for name, row in results["methods"].items():
        lines.append(
            f"{name:12} {row['step_ms']:6.0f} ms (MFU {row['mfu']:.0%}), its passes {row['passes_ms']:6.0f} ms,"
            f" ratio {row['ratio']:.2f}; {row['step_mib']:.0f} MiB, its passes {row['passes_mib']:.0f} MiB"
        )
    return "\n".join(lines)
