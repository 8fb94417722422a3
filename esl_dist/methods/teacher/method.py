"""Self-training in every step with an averaged teacher, as stages: DAFormer, HRDA, MIC, VFM-UDA and one's own."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any

from torch import nn

from esl_dist.config.check import require
from esl_dist.config.entries import Entry
from esl_dist.config.ranks import EXPONENT, global_batch
from esl_dist.config.schema import Config
from esl_dist.config.teacher import TeacherConfig, published
from esl_dist.distributed import ddp
from esl_dist.distributed.collectives import agree
from esl_dist.distributed.frozen import once_per_machine
from esl_dist.engine.adamw import AdamW, Warmed
from esl_dist.engine.optim import Recipe
from esl_dist.engine.step import Streams
from esl_dist.labels import protocol
from esl_dist.methods import identity
from esl_dist.methods.kit import Kit, Training
from esl_dist.methods.networks import beside, passes_of, ready, segmenter_recipe, trained_segmenter
from esl_dist.methods.node import Node, Work
from esl_dist.methods.planning import images, needs, start_of, translated_mark
from esl_dist.methods.stage import Stage
from esl_dist.methods.supervised import SOURCE
from esl_dist.methods.teacher.build import source_step, teacher_step
from esl_dist.methods.teacher.check import check
from esl_dist.methods.teacher.ingredients import Own
from esl_dist.methods.teacher.streams import cropped_domains, rare_of
from esl_dist.methods.teacher.unread import idle_with
from esl_dist.models import Segmenter
from esl_dist.models.adapter.distil import build_distillation
from esl_dist.models.weights import load as load_weights

log = logging.getLogger(__name__)

TITLES = {
    "daformer": "DAFormer",
    "hrda": "HRDA",
    "mic": "MIC",
    "vfm_uda": "VFM-UDA",
    "vfm_uda_plus": "VFM-UDA++",
    "teacher": "teacher",
}
ALONE = "source"
"""Variant: on the source alone."""
SELECTIONS = {"esl": ("replace", " + ESL"), "esl-q": ("with", " + ESL x q")}
"""Variants: what ``teacher.select.use`` is, and how that is called."""


class TeacherMethod:
    """``<name>``; ``<name>:esl`` or ``<name>:esl-q`` with ESL's selection in the step; ``<name>:source``, the method's
    network, crops and optimiser on the source alone, which its gain is told from.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def plan(self, entry: Entry, config: Config, before: Sequence[Node]) -> Sequence[Node]:
        known = ", ".join((*SELECTIONS, ALONE))
        require(
            entry.variant in ("", ALONE, *SELECTIONS),
            "run.stages",
            f"{entry.word!r}: {self.name} takes {known} after the colon",
        )
        options = config.teacher
        require(
            self.name != "teacher" or bool(options.ingredients),
            "teacher.ingredients",
            "names none; the stage teacher is made of them",
        )
        alone = entry.variant == ALONE
        start = start_of(before, "initial" if alone else options.init, "teacher.init")
        use, mark = SELECTIONS.get(entry.variant, (options.select.use, ""))
        select = ALONE if alone else use
        check(entry.word, self._resolved(config, select), config, alone)
        title = TITLES[self.name] + mark
        if alone:  # beside another control it says whose it is
            other = any(isinstance(node, Stage) and node.role == SOURCE.role for node in before)
            title = f"{SOURCE.title}, {title}" if other else SOURCE.title
        return [
            Stage(
                entry.word,
                entry.folder,
                self,
                options.steps,
                title + translated_mark(entry),
                SOURCE.role if alone else "method",
                SOURCE.colour if alone else None,
                needs=needs(init=start, images=images(entry, before)),
                settings={"method": entry.name, "select": select},
            )
        ]

    def identity(self, stage: Stage, config: Config) -> dict[str, Any]:
        return identity.options(config, ("data", "model", "optim", "teacher"), ("teacher.steps", "teacher.select.use"))

    def build(self, stage: Stage, kit: Kit) -> Training:
        config, options = kit.config, self.options(stage, kit.config)
        images_per_step = global_batch(config.optim, kit.runtime.world)
        learns_aux = options.aux_weight > 0
        segmenter = trained_segmenter(kit, kit.weights(stage.needs.get("init", "")), learns_aux)
        classes = protocol(config.data.classes)
        common = (options, segmenter, passes_of(kit), classes, config.run.seed, images_per_step)
        if stage.role == "baseline":
            return Training(source_step(*common), recipe(options, config, stage.steps, images_per_step))
        for idle in idle_with(options, segmenter):
            log.warning("%s: %s", stage.name, idle)
        step = teacher_step(*common, distillation=distillation_of(options, segmenter, kit))
        beside_it = beside(step.networks)
        return Training(step, recipe(options, config, stage.steps, images_per_step, beside_it))

    def streams(self, stage: Stage, work: Work, start: int) -> Streams:
        return cropped_domains(work, stage, self.options(stage, work.config), start)

    def foresee(self, stage: Stage, work: Work) -> None:
        """``ValueError`` where an ingredient cannot be imported, the weights of ``distil`` are not there, or no source
        image has enough pixels of a class.
        """
        options = self.options(stage, work.config)
        if stage.role != "baseline":
            agree(lambda: _require_parts(options))
        if not stage.needs.get("images"):
            rare_of(work, work.source, options.crop)

    def finish(self, stage: Stage, work: Work) -> None:
        """Nothing beside scores."""

    def options(self, stage: Stage, config: Config) -> TeacherConfig:
        """A stage's own: every ``published`` resolved, the selection as its variant says."""
        return self._resolved(config, stage.settings["select"])

    def _resolved(self, config: Config, select: Any) -> TeacherConfig:
        """``select``: ``ALONE``, or what ``teacher.select.use`` is."""
        options = published(self.name, config.teacher)
        if select == ALONE:
            return options
        return dataclasses.replace(options, select=dataclasses.replace(options.select, use=select))


def _require_parts(options: TeacherConfig) -> None:
    for name in options.ingredients:
        if ":" in name:
            Own.load(name)
    reference = options.distil.reference
    require(
        "distil" not in options.ingredients or os.path.isfile(reference),
        "teacher.distil.reference",
        f"no file {reference}; docs/how-to/weights.md says where it comes from",
    )


def distillation_of(options: TeacherConfig, segmenter: nn.Module, kit: Kit) -> tuple[nn.Module, nn.Module] | None:
    """The frozen reference with its weights, on the device, and the wrapped head, of a method with ``distil``.

    Raises:
        ValueError: the weights are another network's.
    """
    if "distil" not in options.ingredients:
        return None
    student = ddp.inner(segmenter)
    assert isinstance(student, Segmenter)
    distil = options.distil
    made = build_distillation(distil.encoder, student.feature_channels, kit.config.run.seed + 3)
    load_weights(distil.reference, made.reference.encoder)
    once_per_machine(kit.runtime.place(made.reference), kit.runtime)
    return made.reference, ready(made.head.train(), kit)


def recipe(
    options: TeacherConfig, config: Config, steps: int, images_per_step: int, others: Sequence[str] = ()
) -> Recipe:
    """How the student, and ``others`` that train beside it, are updated; options are a method's
    (``config.teacher.published``).
    """
    update = options.optim
    if update.name == "sgd":
        return segmenter_recipe(config.optim, steps, others)
    factor = images_per_step ** EXPONENT[update.scale_lr]
    if factor != 1:
        log.info("learning rates times %.4g (teacher.optim.scale_lr, %d images a step)", factor, images_per_step)
    undecayed = ("norm",) if update.decayed == "no_norms" else ()
    adamw = AdamW(update.lr * factor, update.head_lr, update.weight_decay, undecayed, update.layer_decay)
    within = update.warming == "within"
    schedule = Warmed(steps, update.power, update.warmup, 1e-6 if within else 1e-3, within)
    clip = {"segmenter": config.optim.clip} if config.optim.clip else {}
    return Recipe({"segmenter": adamw, **dict.fromkeys(others, adamw)}, schedule, clip)
