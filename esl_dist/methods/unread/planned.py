"""What the stages of a run work with, as far as it decides which options are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from esl_dist.config.entries import parse
from esl_dist.config.schema import Config, PseudoLabelConfig
from esl_dist.config.teacher import TEACHER_METHODS, TeacherConfig
from esl_dist.labelling import rules_of
from esl_dist.methods.adaptation.objectives import discriminated, terms_of
from esl_dist.methods.labels import Labels
from esl_dist.methods.node import Node
from esl_dist.methods.plan import plan
from esl_dist.methods.stage import Stage
from esl_dist.methods.teacher.method import TeacherMethod
from esl_dist.pseudo_labels.thresholds.rules import bound_of

ADAPTED = ("align", "selftrain")
ON_LABELS = ("initial", "source", "oracle")


@dataclass(frozen=True)
class Planned:
    """A run's options, and what of them its stages work with."""

    config: Config

    @cached_property
    def nodes(self) -> Sequence[Node]:
        return plan(self.config)

    @cached_property
    def stages(self) -> list[Stage]:
        return [node for node in self.nodes if isinstance(node, Stage)]

    def has(self, *methods: str) -> bool:
        return any(stage.method.name in methods for stage in self.stages)

    def names(self, method: str) -> bool:
        """Whether every stage of a method names its variant, and so the option for it is not asked."""
        entries = [parse(stage.entry) for stage in self.stages if stage.method.name == method]
        return bool(entries) and all(entry.variant for entry in entries)

    @cached_property
    def teachers(self) -> list[TeacherConfig]:
        """Resolved options of the teacher methods' stages, controls left out."""
        return [
            stage.method.options(stage, self.config)
            for stage in self.stages
            if isinstance(stage.method, TeacherMethod) and stage.role == "method"
        ]

    @cached_property
    def sgd(self) -> bool:
        """Whether a stage takes its rates from ``optim``."""
        return self.has(*ON_LABELS, *ADAPTED) or (
            self.has(*TEACHER_METHODS) and self.config.teacher.optim.name == "sgd"
        )

    @cached_property
    def objectives(self) -> list[str]:
        return [stage.settings["objective"] for stage in self.stages if stage.method.name in ADAPTED]

    @cached_property
    def terms(self) -> set[str]:
        return {term.objective for name in self.objectives for term in terms_of(name, self.config.align)}

    @cached_property
    def judges(self) -> bool:
        """Whether a stage trains a discriminator."""
        two = self.config.model.multi_level
        return any(discriminated(name, self.config.align, two) for name in self.objectives)

    @cached_property
    def rules(self) -> list[PseudoLabelConfig]:
        made = [node for node in self.nodes if isinstance(node, Labels)]
        return [setting for node in made for setting in rules_of(self.config, node.rules).values()]

    @cached_property
    def bounds(self) -> set[str]:
        return {bound[0] for setting in self.rules if (bound := bound_of(setting)) is not None}
