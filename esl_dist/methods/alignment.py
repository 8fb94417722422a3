"""Alignment: source supervision beside a loss on unlabelled target images (AdaptSegNet, ADVENT, MinEnt, MaxSquare)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from esl_dist.config.alignment import OBJECTIVES
from esl_dist.config.check import require
from esl_dist.config.entries import Entry
from esl_dist.config.schema import AlignConfig, Config
from esl_dist.distributed.collectives import agree
from esl_dist.engine.step import Streams
from esl_dist.methods import identity
from esl_dist.methods.adaptation.build import adaptation_step, modes_identity
from esl_dist.methods.adaptation.objectives import import_terms
from esl_dist.methods.kit import Kit, Training
from esl_dist.methods.networks import beside, segmenter_recipe
from esl_dist.methods.node import Node, Work
from esl_dist.methods.planning import images, needs, start_of, translated_mark
from esl_dist.methods.stage import Stage
from esl_dist.methods.streams import both_domains

TITLES = {
    "none": "no alignment",
    "bn": "BN control",
    "adaptsegnet": "AdaptSegNet",
    "advent": "ADVENT",
    "minent": "MinEnt",
    "maxsquare": "MaxSquare",
    "iw_maxsquare": "MaxSquare+IW",
}
CONTROLS = ("none", "bn")


class Alignment:
    """``align``, ``align:<objective>``."""

    name = "align"

    def plan(self, entry: Entry, config: Config, before: Sequence[Node]) -> Sequence[Node]:
        known = ", ".join(OBJECTIVES)
        require(
            not entry.variant or entry.variant in OBJECTIVES,
            "run.stages",
            f"{entry.word!r}: align takes {known} after the colon",
        )
        check(config)
        objective = entry.variant or config.align.objective
        start = start_of(before, config.align.init, "align.init")
        return [
            Stage(
                entry.word,
                entry.folder,
                self,
                config.align.steps,
                title(objective, config.align) + translated_mark(entry),
                "control" if objective in CONTROLS else "method",
                needs=needs(init=start, images=images(entry, before)),
                settings={"objective": objective},
            )
        ]

    def identity(self, stage: Stage, config: Config) -> dict[str, Any]:
        found = identity.options(config, ("data", "model", "optim", "align"), ("align.steps", "align.objective"))
        return found | modes_identity(stage.settings["objective"], config)

    def build(self, stage: Stage, kit: Kit) -> Training:
        step = adaptation_step(stage, kit)
        return Training(step, segmenter_recipe(kit.config.optim, stage.steps, beside(step.networks)))

    def streams(self, stage: Stage, work: Work, start: int) -> Streams:
        return both_domains(work, stage, start, {"labels": False})

    def foresee(self, stage: Stage, work: Work) -> None:
        """``ValueError`` where a function of one's own cannot be imported."""
        agree(lambda: import_terms(stage.settings["objective"], work.config.align))

    def finish(self, stage: Stage, work: Work) -> None:
        """Nothing beside scores."""


def check(config: Config) -> None:
    """``ValueError`` where the objective asks for what the network has not."""
    require(
        config.model.multi_level or not config.align.self_guidance,
        "align.self_guidance",
        f"needs two heads: set model.{config.model.name}.multi_level=true",
    )


def title(objective: str, config: AlignConfig) -> str:
    """``minent`` with a further term -> ``MinEnt + sharpen``."""
    terms = [objective]
    if objective not in CONTROLS:
        terms += [*(term.objective for term in config.also), *(["Multi"] if config.self_guidance else [])]
    return " + ".join(TITLES.get(term, term.rpartition(":")[2]) for term in terms)
