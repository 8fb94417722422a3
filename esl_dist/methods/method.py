"""A method's home: what it plans, the networks, optimisers and streams of its training, what is part of its identity.

A new method is a class with these members in a file of this room (or in any module on ``PYTHONPATH``), and a line in
``plan.METHODS``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from esl_dist.config.entries import Entry
from esl_dist.config.schema import Config
from esl_dist.engine.step import Streams
from esl_dist.methods.kit import Kit, Training
from esl_dist.methods.node import Node, Work
from esl_dist.methods.stage import Stage


class Method(Protocol):
    """One training method."""

    @property
    def name(self) -> str:
        """Its word in ``run.stages``."""

    def plan(self, entry: Entry, config: Config, before: Sequence[Node]) -> Sequence[Node]:
        """The nodes that an entry of ``run.stages`` means, after those planned ``before``.

        Raises:
            ValueError: the entry, or what it needs, is not there; one line that begins with the option.
        """

    def identity(self, stage: Stage, config: Config) -> dict[str, Any]:
        """Options that the stage's result is a function of, by key (see ``identity.options``)."""

    def build(self, stage: Stage, kit: Kit) -> Training:
        """The networks of a stage, its step and its optimisers."""

    def streams(self, stage: Stage, work: Work, start: int) -> Streams:
        """The images of a stage from optimiser step ``start`` on."""

    def finish(self, stage: Stage, work: Work) -> None:
        """What follows training beside scores; nothing for most."""
