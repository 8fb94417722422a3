"""The network whose labels are made, as the rules of one extraction look at it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.distributed import collectives
from esl_dist.pseudo_labels.sets.fingerprint import ALONE, CANARY, Fingerprint
from esl_dist.pseudo_labels.sets.forward import DependsOnPlace, Forward, TargetImages, canary, logits_of
from esl_dist.pseudo_labels.sets.views import Views


@dataclass(frozen=True)
class Teacher:
    """A network that is there to be loaded."""

    open: Callable[[], AbstractContextManager[Forward]]
    """Entered when an image must be scored, and not before."""
    given: dict[str, Any]
    """What decides its logits (checkpoint SHA-256, sizes, precision): a spool and a label set are of this very network.
    """
    class_names: Sequence[str]
    arithmetic: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    """Entered around everything, the network loaded or not: how the device computes (threads, TF32, determinism)."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass
class Gaze:
    """A teacher's logits over one target set, divided by a temperature and averaged over views; loaded by the first
    forward.
    """

    teacher: Teacher
    images: TargetImages
    batch: int
    """Images that are asked for at once; a device on which their places matter gets them one by one."""
    temperature: float
    views: Views
    stack: contextlib.ExitStack
    """Closes the network in the end."""
    report: Callable[[str], None] = lambda line: None
    _forward: Forward | None = None
    _found: Fingerprint = field(default_factory=dict)

    @staticmethod
    def sort(settings: Sequence[PseudoLabelConfig]) -> tuple[str, float]:
        """Mode of the scores and temperature of rules that share an extraction.

        Raises:
            ValueError: they differ.
        """
        modes, temperatures = {setting.scores for setting in settings}, {setting.temperature for setting in settings}
        if len(modes) != 1:
            raise ValueError(
                "pseudo_labels.scores: rules that share one extraction need the same mode, exact or library"
            )
        if len(temperatures) != 1:
            raise ValueError("pseudo_labels.temperature: rules that share one extraction need the same temperature")
        return modes.pop(), temperatures.pop()

    @property
    def given(self) -> Fingerprint:
        """What the caller chose of all that decides the logits."""
        given = {**self.teacher.given, "temperature": self.temperature}
        return given if self.views.plain else {**given, "views": str(self.views)}

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 ``[B, 3, H, W]`` to float32 logits ``[B, C, h, w]``."""
        if self._forward is None:
            hot = self.stack.enter_context(self.teacher.open())
            self._forward = self.views.through(hot, self.temperature)
        return self._forward(images)

    def logits(self, ids: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
        """``(id, float32 logits [C, h, w])`` of these images."""
        return logits_of(self, self.images, ids, self.batch)

    def canary(self) -> tuple[Fingerprint, tuple[int, int, int]]:
        """What only a forward tells of its bits, and the shape ``[C, h, w]`` of an image's logits. Collective.

        A fixed image's logits must not depend on its slot in the batch; where they do, forwards take one image from
        here on.
        """

        def look() -> tuple[str, tuple[int, int, int]]:
            try:
                return canary(self, self.batch, self.images.input_size)
            except DependsOnPlace:
                self.report("logits depend on an image's place in its batch on this device: one image a forward")
                self.batch, self._found[ALONE] = 1, 1
                return canary(self, 1, self.images.input_size)

        hashed, shape = collectives.agree(look)
        self._found.setdefault(CANARY, hashed)
        return {**self._found, CANARY: hashed}, shape

    def check_canary(self) -> None:
        """``ValueError`` on all ranks where the fixed image's logits are not what they were at first."""

        def check() -> None:
            if canary(self, self.batch, self.images.input_size)[0] != self._found[CANARY]:
                raise ValueError(
                    "the canary's logits changed during the run, so this device does not compute the same "
                    "twice; delete spool and labels and check the machine"
                )

        collectives.agree(check)
