"""From ``run.stages`` to the nodes of a run, in order. A pure function of the configuration."""

from __future__ import annotations

import importlib

from esl_dist.config.entries import parse
from esl_dist.config.schema import Config
from esl_dist.config.teacher import TEACHER_METHODS
from esl_dist.methods.alignment import Alignment
from esl_dist.methods.labels import Labels
from esl_dist.methods.method import Method
from esl_dist.methods.node import Node
from esl_dist.methods.selftraining import SelfTrain
from esl_dist.methods.stage import Stage
from esl_dist.methods.supervised import INITIAL, ORACLE, SOURCE
from esl_dist.methods.teacher.method import TeacherMethod
from esl_dist.methods.translation.method import Translate, repeated

_KNOWN: tuple[Method, ...] = (
    INITIAL,
    SOURCE,
    Translate(),
    Alignment(),
    *map(TeacherMethod, TEACHER_METHODS),
    SelfTrain(),
    ORACLE,
)
METHODS: dict[str, Method] = {method.name: method for method in _KNOWN}
"""By their words in ``run.stages``."""


def plan(config: Config) -> list[Node]:
    """The nodes of ``run.stages``, each after what it needs.

    Raises:
        ValueError: an unknown stage or variant, or one whose needs are not planned before it.
    """
    planned: dict[str, Node] = {}
    for word in repeated(config.run.stages, config.translate.rounds):
        entry = parse(word)
        for node in method_of(word).plan(entry, config, list(planned.values())):
            known = planned.get(node.name)
            if isinstance(known, Labels):
                node = known.joined(node)
            elif known is not None:
                raise ValueError(
                    f"run.stages: {word} and {known.entries[0]} would both be {node.name}; name one of them"
                )
            planned[node.name] = node
    return list(planned.values())


def stages(config: Config) -> list[Stage]:
    """Those of the plan that train networks."""
    return [node for node in plan(config) if isinstance(node, Stage)]


def method_of(word: str) -> Method:
    """The method that an entry of ``run.stages`` names: one of ``METHODS``, or ``package.module:Class``.

    Raises:
        ValueError: nobody knows it.
    """
    entry = parse(word)
    if entry.name in METHODS:
        return METHODS[entry.name]
    if "." not in entry.name:
        raise ValueError(f"run.stages: unknown stage {word!r}; known: {', '.join(METHODS)}")
    try:
        made: Method = getattr(importlib.import_module(entry.name), entry.variant)()
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"run.stages: cannot import {word!r}: {error}; write package.module:Class, the module on PYTHONPATH"
        ) from None
    return made


def label_title(name: str, config: Config) -> str:
    """How a label set is called in tables: as the stage that learns from it; of another run, by its own name."""
    return next((stage.title for stage in stages(config) if stage.labels == name), name)
