"""Self-training: re-training on a teacher's pseudo-labels, alignment kept on (SSL, ESL, CBST), in rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from esl_dist.config.check import require
from esl_dist.config.entries import Entry
from esl_dist.config.schema import RULES, Config
from esl_dist.distributed.collectives import agree
from esl_dist.engine.optim import Average
from esl_dist.engine.step import Streams
from esl_dist.labelling import rules_of
from esl_dist.methods import alignment, identity
from esl_dist.methods.adaptation.build import adaptation_step, modes_identity
from esl_dist.methods.adaptation.objectives import import_terms
from esl_dist.methods.adaptation.step import SelfTraining
from esl_dist.methods.kit import Kit, Training
from esl_dist.methods.labels import Labels
from esl_dist.methods.networks import beside, segmenter_recipe
from esl_dist.methods.node import Node, Work
from esl_dist.methods.planning import images, last, needs, start_of, translated_mark
from esl_dist.methods.stage import Stage
from esl_dist.methods.streams import both_domains
from esl_dist.pseudo_labels.extraction import require_logits
from esl_dist.pseudo_labels.thresholds.rules import relabels

TITLES = {"esl": "ESL", "ssl": "SSL", "median": "median only", "cbst": "CBST", "margin": "margin", "views": "views"}
SECTIONS = ("data", "model", "optim", "align", "selftrain", "pseudo_labels", "extract")
PLANNED = (
    "align.steps",
    "align.objective",
    "selftrain.steps",
    "selftrain.rounds",
    "selftrain.objective",
    "pseudo_labels.rule",
)


class SelfTrain:
    """``selftrain``, ``selftrain:<rule>``."""

    name = "selftrain"

    def plan(self, entry: Entry, config: Config, before: Sequence[Node]) -> Sequence[Node]:
        """Per round the labels of the teacher so far, and the stage that learns from them; it teaches the next."""
        rule = entry.variant or config.pseudo_labels.rule
        aligned = _last_adapted(before)
        teacher = (aligned.name if aligned else "") or last(before, "baseline") or last(before, "start")
        _check(entry, rule, teacher, aligned, config)
        _check_rule(rule, next(node for node in before if node.name == teacher), config)
        init = config.selftrain.init
        start = {"align": aligned.name if aligned else "", "teacher": None}.get(init, "")
        if init in ("initial", "source"):
            start = start_of(before, init, "selftrain.init")
        objective = config.selftrain.objective
        if objective == "same":
            objective = aligned.settings.get("objective", "none") if aligned else "none"
        name, seen = entry.folder, images(entry, before)
        nodes: list[Node] = []
        labels = ""
        for number in range(1, config.selftrain.rounds + 1):
            earlier, labels = labels, _numbered(rule + (f"-{entry.mark}" if entry.mark else ""), number)
            compared = {labels: earlier} if earlier else {}
            nodes.append(Labels(teacher, (entry.word,), {labels: rule}, number, compared))
            stage = Stage(
                entry.word,
                _numbered(name, number),
                self,
                config.selftrain.steps,
                TITLES.get(rule, rule) + translated_mark(entry) + (f", round {number}" if number > 1 else ""),
                needs=needs(
                    init=teacher if start is None else start, teacher=teacher, images=seen, labels=nodes[-1].name
                ),
                settings={"objective": objective, "rule": rule},
                labels=labels,
                round=number,
            )
            nodes.append(stage)
            teacher = stage.name
        return nodes

    def identity(self, stage: Stage, config: Config) -> dict[str, Any]:
        return identity.options(config, SECTIONS, PLANNED) | modes_identity(stage.settings["objective"], config)

    def build(self, stage: Stage, kit: Kit) -> Training:
        options = kit.config.selftrain
        step = adaptation_step(stage, kit, SelfTraining(options.weight, options.weight_aux))
        recipe = segmenter_recipe(kit.config.optim, stage.steps, beside(step.networks))
        return Training(step, dataclasses.replace(recipe, average=Average(options.ema) if options.ema else None))

    def streams(self, stage: Stage, work: Work, start: int) -> Streams:
        made = work.run.labels.set(stage.labels)
        weighted = work.config.selftrain.label_weight == "confidence"
        files = {"label_dir": made.labels, **({"weight_dir": made.weights} if weighted else {})}
        return both_domains(work, stage, start, files)

    def foresee(self, stage: Stage, work: Work) -> None:
        """``ValueError`` where a function of one's own cannot be imported."""
        agree(lambda: import_terms(stage.settings["objective"], work.config.align))

    def finish(self, stage: Stage, work: Work) -> None:
        """Nothing beside scores."""


def _check(entry: Entry, rule: str, teacher: str, aligned: Stage | None, config: Config) -> None:
    alignment.check(config)
    known = ", ".join(RULES)
    require(rule in RULES, "run.stages", f"{entry.word!r}: selftrain takes {known} after the colon")
    require(
        bool(teacher),
        "run.stages",
        "selftrain needs an align, source or initial stage before it to make its labels",
    )
    require(
        config.selftrain.label_weight == "none" or rule != "cbst",
        "selftrain.label_weight",
        "confidence is not defined for cbst, which relabels pixels; use esl, ssl or median, or none",
    )
    require(
        config.selftrain.init != "align" or aligned is not None,
        "selftrain.init",
        "align needs an align stage in run.stages",
    )


def _check_rule(rule: str, teacher: Node, config: Config) -> None:
    """``ValueError`` where labels by this rule cannot be made of the (first) teacher's network."""
    (setting,) = rules_of(config, {rule: rule}).values()
    if relabels(setting):
        require_logits(config.extract.spool)
    if rule != "views":
        return
    require(
        config.model.multi_level or not setting.views_heads,
        "pseudo_labels.views_heads",
        f"the network has one head: leave it off, or set model.{config.model.name}.multi_level=true",
    )
    assert isinstance(teacher, Stage)
    alone = "objective" in teacher.settings or teacher.role in ("start", "baseline")
    require(
        not (setting.views_teacher and alone),
        "pseudo_labels.views_teacher",
        f"{teacher.name}, which makes the labels, trains one network: leave it off, or take labels of a stage with a"
        " teacher (daformer, mic, vfm_uda)",
    )


def _last_adapted(before: Sequence[Node]) -> Stage | None:
    """The newest network that a method adapted without labels of a teacher before it: the first teacher."""
    stages = (node for node in reversed(before) if isinstance(node, Stage))
    return next((stage for stage in stages if stage.role == "method" and not stage.labels), None)


def _numbered(name: str, number: int) -> str:
    return name + (f"-r{number}" if number > 1 else "")
