"""Scores of a stage: while it trains and of what it ended with."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from torch import nn

from esl_dist.config import load
from esl_dist.config.schema import BnStatistics, Config
from esl_dist.distributed import collectives, ddp
from esl_dist.distributed.collectives import agree
from esl_dist.labelling import statistics_batches
from esl_dist.labels import protocol
from esl_dist.methods import identity
from esl_dist.methods.node import Work
from esl_dist.methods.strip import write_extremes, write_strip
from esl_dist.metrics.evaluate import Conditions, EvaluationResult, evaluate, write_metrics
from esl_dist.metrics.inference import Predictor
from esl_dist.metrics.sliding import windowed
from esl_dist.models import empty_segmenter
from esl_dist.monitor import memory
from esl_dist.runs.content import Scores
from esl_dist.runs.events import Eval

if TYPE_CHECKING:
    from esl_dist.methods.stage import Stage

log = logging.getLogger(__name__)


DECISIVE = (
    "eval.split",
    "eval.input_size",
    "eval.at",
    "eval.images",
    "eval.window",
    "eval.stride",
    "eval.averaged",
    "eval.precision",
    "data.target.fit",
)
OF_STATISTICS = ("extract.bn_images", "extract.batch", "data.target.size")
"""What decides a score with the target's statistics too."""


def score_final(stage: Stage, work: Work) -> None:
    """Write the scores of the stage's final network that are missing, or that were taken by other options, one file per
    entry of ``eval.bn_statistics``.
    """
    if work.scored is None:
        return
    folder, options = work.run.stage(stage.name), work.config.eval
    ending = agree(folder.done.read)

    def is_scored(kind: str) -> bool:
        found = folder.scores(kind).find()
        if found is None or found.get("weights_sha256") != ending.weights_sha256:
            return False
        other = _difference(found, kind, work.config)
        if other:
            log.info("%s: scored again: it was with %s", stage.name, other)
        return not other

    def forget_others() -> None:
        """Scores that are no longer asked for stand in no table beside those by other options."""
        for kind in set(get_args(BnStatistics)) - set(options.bn_statistics):
            found = folder.scores(kind).find()
            if found is not None and _difference(found, kind, work.config):
                folder.scores(kind).forget()

    agree(lambda: forget_others() if work.runtime.is_main else None)
    missing = agree(lambda: [kind for kind in options.bn_statistics if not is_scored(kind)])
    if not missing:
        return
    first, known = options.bn_statistics[0], work.at_end.pop(stage.name, None)
    final = folder.checkpoints / ending.checkpoint
    predictor = Predictor.from_checkpoint(work.config, final, work.runtime, options.precision)
    for kind in missing:
        result = known if known is not None and kind == first else _evaluate(stage, predictor, kind, ending.step, work)
        if work.runtime.is_main:
            extra = {
                "bn_statistics": kind,
                "split": options.split,
                "options": _decisive(kind, work.config),
                "stage": stage.name,
                "step": ending.step,
                "weights_sha256": ending.weights_sha256,
            }
            write_metrics(result, folder.scores(kind).path, extra)
    collectives.barrier()


def _decisive(kind: str, config: Config) -> dict[str, Any]:
    found = load.flat(config, "eval", "data", "extract")
    return identity.json_ready({key: found[key] for key in (*DECISIVE, *(OF_STATISTICS if kind == "target" else ()))})


def _difference(scored: Scores, kind: str, config: Config) -> str:
    """The first option by which a score on disk is another one's than the configuration asks for; empty for none."""
    now = _decisive(kind, config)
    before = scored.get("options")
    if before is None:  # of an earlier release, which recorded the split alone
        before, now = {"eval.split": scored.get("split", "")}, {"eval.split": now["eval.split"]}
    return identity.difference(before, now)


def score_while_training(stage: Stage, networks: nn.ModuleDict, work: Work) -> Callable[[int], float | None]:
    """mIoU every ``eval.every`` steps and at the end, with the first of ``eval.bn_statistics``.

    A copy of the network is scored, so that the one that trains cannot tell how often.
    """
    config, every = work.config, work.config.eval.every
    if not every or work.scored is None or not stage.scored:
        return lambda step: None
    segmenter = networks[stage.result]
    classes = protocol(config.data.classes).num_classes
    copy = work.runtime.place(empty_segmenter(config.model, classes, config.data))

    def score(step: int) -> float | None:
        if step % every and step != stage.steps:
            return None
        with ddp.averaged_buffers(segmenter):
            copy.load_state_dict(ddp.inner(segmenter).state_dict())
        predictor = Predictor(copy, work.runtime, config.eval.precision)
        result = _evaluate(stage, predictor, config.eval.bn_statistics[0], step, work)
        if step == stage.steps:
            work.at_end[stage.name] = result
        return None if math.isnan(result.miou) else result.miou

    return score


def _evaluate(stage: Stage, predictor: Predictor, kind: str, step: int, work: Work) -> EvaluationResult:
    """Score a network on all ranks and log it."""
    assert work.scored is not None
    config, options = work.config, work.config.eval
    careful = memory.explained(f"{stage.name}: evaluation", "lower eval.batch, or eval.input_size")
    statistics = predictor.statistics(kind, statistics_batches(config, work.target))
    with careful, work.runtime.fixed_forward(options.precision), statistics:
        predict = windowed(predictor, options)
        result = evaluate(predict, work.scored, Conditions.of(config), stop=lambda: work.stop.local)
        if work.runtime.is_main and kind == options.bn_statistics[0]:
            write_strip(predict, work.run.stage(stage.name), step, work)
            if step == stage.steps:
                write_extremes(predict, work.run.stage(stage.name), result, work)
    content = result.to_json()
    scores = (content["miou"], content.get("miou_star"), content["iou"])
    work.tracker.record(Eval(stage.name, step, options.split, kind, *scores))
    return result
