"""Scoring checkpoints from outside a run: one network or several, their views averaged, each batch-norm statistic."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esl_dist.config.schema import Config
from esl_dist.data import open_at_size
from esl_dist.distributed.collectives import agree
from esl_dist.distributed.runtime import Runtime
from esl_dist.labelling import statistics_batches
from esl_dist.labels import protocol
from esl_dist.metrics.ensemble import Predict, flipped, multi_scale, weighted
from esl_dist.metrics.evaluate import Conditions, EvaluationResult, evaluate
from esl_dist.metrics.inference import Predictor
from esl_dist.metrics.sliding import windowed


@dataclass(frozen=True)
class Ensemble:
    """Whose logits are averaged, and over which views."""

    checkpoints: Sequence[Path]
    weights: Sequence[float] = ()
    """One for each checkpoint; none: all alike."""
    flip: bool = False
    """Also the mirror image."""
    scales: Sequence[float] = (1.0,)
    """Factors of ``eval.input_size``."""

    def of(self, networks: Sequence[Predictor], config: Config) -> Predict:
        """The networks of ``checkpoints`` as one."""
        predict: Predict = networks[0]
        if len(networks) > 1 or self.weights:
            predict = weighted(networks, self.weights or [1.0] * len(networks))
        predict = windowed(predict, config.eval)
        predict = multi_scale(predict, self.scales) if list(self.scales) != [1.0] else predict
        return flipped(predict) if self.flip else predict

    def about(self, config: Config) -> dict[str, Any]:
        """What a record of scores says of it."""
        return {
            "split": config.eval.split,
            "protocol": protocol(config.data.classes).name,
            "checkpoints": [str(path) for path in self.checkpoints],
            "weights": list(self.weights or [1.0] * len(self.checkpoints)),
            "flip": self.flip,
            "scales": list(self.scales),
        }


def evaluated(
    config: Config, ensemble: Ensemble, runtime: Runtime, stop: Callable[[], bool]
) -> Iterator[tuple[str, EvaluationResult]]:
    """Each of ``eval.bn_statistics`` with the scores on ``eval.split``. Called by all ranks.

    Raises:
        ValueError: data or weights that are not there or do not fit; one line.
    """
    data, options = config.data, config.eval
    agree(lambda: runtime.inference(options.precision, "eval.precision"))
    scored = agree(lambda: open_at_size(data.target, data, options.input_size, options.split or None))
    target = agree(lambda: open_at_size(data.target, data)) if "target" in options.bn_statistics else scored
    networks = agree(
        lambda: [Predictor.from_checkpoint(config, path, runtime, options.precision) for path in ensemble.checkpoints]
    )
    predict = ensemble.of(networks, config)
    for kind in options.bn_statistics:
        with contextlib.ExitStack() as stack:
            stack.enter_context(runtime.fixed_forward(options.precision))
            for network in networks:
                stack.enter_context(network.statistics(kind, statistics_batches(config, target)))
            result = evaluate(predict, scored, Conditions.of(config), stop=stop)
        yield kind, result


def table(result: EvaluationResult, config: Config, kind: str) -> str:
    """IoU of every class in %, their mean, and on what."""
    lines = [
        f"{name:16} " + (f"{100 * value:6.2f}" if value == value else "     –")
        for name, value in zip(protocol(config.data.classes).classes, result.iou, strict=True)
    ]
    mean = f"{'mean':16} {100 * result.miou:6.2f}"
    return "\n".join([*lines, f"{mean}  over {result.images} images, {kind} BN statistics, {config.eval.at} size"])
