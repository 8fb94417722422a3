"""A stage: the node that trains a method's networks, ends with a checkpoint and is scored."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from esl_dist import kernels
from esl_dist.config.schema import Config
from esl_dist.distributed import collectives
from esl_dist.distributed.capture import obstacle, own_stream
from esl_dist.distributed.collectives import agree
from esl_dist.engine import checkpoint
from esl_dist.engine.loop import Loop, new_scaler
from esl_dist.engine.optim import odd_rates
from esl_dist.engine.update import Updater
from esl_dist.methods import identity, longer
from esl_dist.methods.counting import class_pixels
from esl_dist.methods.kit import Kit
from esl_dist.methods.node import Node, Work
from esl_dist.methods.scoring import score_final, score_while_training
from esl_dist.models.card import KEY, Card
from esl_dist.monitor import memory
from esl_dist.runs import RunFolder, events
from esl_dist.runs.content import Ending

if TYPE_CHECKING:
    from esl_dist.methods.method import Method

log = logging.getLogger(__name__)

INHERITED = ("init", "teacher", "images")
"""Needs whose weights are part of a stage's identity."""

Role = Literal["start", "baseline", "control", "method", "bound", "tool"]
"""What a stage is in a table: initial weights; source-only, from which gains are counted; a control that aligns
nothing; a method; trained on target labels, so nothing may be compared with it but upwards; no segmenter at all.
"""


@runtime_checkable
class Foresees(Protocol):
    """A method that knows more than its options before the run's first step: files, modules, the data."""

    def foresee(self, stage: Stage, work: Work) -> None:
        """``ValueError`` where a stage of it cannot be trained. Called by all ranks."""


@dataclass(frozen=True)
class Stage:
    """One planned training."""

    entry: str
    """As written in ``run.stages``."""
    name: str
    """Its folder in the run, unique."""
    method: Method = field(compare=False)
    steps: int
    title: str
    """As papers call it: source-only, BN control, ADVENT, ESL, round 2."""
    role: Role = "method"
    colour: str | None = None
    """In charts; None takes the next free one."""
    needs: Mapping[str, str] = field(default_factory=dict)
    """``init``: whose final weights it starts from (none: ``model.checkpoint``, or drawn from the seed); ``teacher``:
    whose labels, or whose judgement, it learns from; ``images``: whose translation of the source it reads.
    """
    settings: Mapping[str, str] = field(default_factory=dict)
    """What its method decided for it, such as ``objective`` and ``rule``; part of its identity."""
    labels: str = ""
    """Name of the label set that it learns from."""
    round: int = 1
    result: str = "segmenter"
    """Name in its checkpoints of the network that it is for."""

    @property
    def entries(self) -> tuple[str, ...]:
        return (self.entry,)

    def folders(self, run: RunFolder) -> list[Path]:
        return [run.stage(self.name).path]

    @property
    def scored(self) -> bool:
        """Whether its result is a segmenter."""
        return self.role != "tool"

    def identity(self, config: Config, precision: str, world: int, weights: Mapping[str, str]) -> dict[str, Any]:
        """Options that the stage's final weights are a function of, JSON-ready.

        Args:
            precision: resolved arithmetic.
            weights: SHA-256 of the final weights of the stages that it needs, by their names.
        """
        found = self.method.identity(self, config) | identity.of_training(config, precision, world)
        found |= {"steps": self.steps, "objective": "none", "rule": "", **self.settings}
        for role in INHERITED:
            name = self.needs.get(role, "")
            if name or role != "images":
                found |= {role: name, f"weights of {role}": weights.get(name, "")}
        return identity.json_ready(found)

    def check(self, work: Work) -> None:
        folder = work.run.stage(self.name)
        before = folder.identity.find()
        # Where nothing was trained yet, nothing is gone on with: a mended command may begin anew.
        if before is not None and (folder.done.exists() or any(folder.checkpoints.glob("step_*"))):
            now = longer.comparable(before, self._identity(work))
            identity.refuse(folder.path, identity.difference(before, now))

    def is_raised(self, work: Work) -> bool:
        """Whether something was trained that is now to be trained longer (decided by rank 0 for all)."""

        def verdict() -> bool:
            folder = work.run.stage(self.name)
            return longer.is_raised(folder.identity.find(), self.steps) and any(folder.checkpoints.glob("step_*"))

        raised = agree(lambda: verdict() if work.runtime.is_main else False)
        return bool(collectives.broadcast_json(raised))

    def check_others(self, nodes: Sequence[Node], work: Work) -> None:
        """Those made from a stage that is to be trained longer; and whether this one can be trained at all, which is
        not found out hours later.
        """
        if isinstance(self.method, Foresees) and not work.run.stage(self.name).done.exists():
            self.method.foresee(self, work)
        if self.is_raised(work):
            agree(lambda: self.check(work))
            agree(lambda: longer.require_alone(self, nodes, work))

    def is_done(self, work: Work) -> bool:
        """Whether it ended and its final checkpoint still verifies (decided by rank 0 for all)."""
        verdict = False
        ending = agree(work.run.stage(self.name).done.find)
        if work.runtime.is_main and ending is not None and ending.step >= self.steps:
            problems = checkpoint.verify(work.final(self.name))
            for problem in problems:
                log.warning("%s: %s; the stage is trained again from its newest valid checkpoint", self.name, problem)
            verdict = not problems
        return bool(collectives.broadcast_json(verdict))

    def found(self, work: Work) -> None:
        work.tracker.found(self.name)

    def make(self, work: Work) -> None:
        """Train it, from its newest valid checkpoint on."""
        began = time.monotonic()
        config, runtime = work.config, work.runtime
        parts = agree(lambda: self._begin(work) if runtime.is_main else [])
        parts = collectives.broadcast_json(parts)
        with own_stream(runtime.device, config.run.capture != "off"):
            self._train(work, parts)
        agree(lambda: self._record_end(work) if runtime.is_main else None)
        work.tracker.record(events.Stage(self.name, "done", seconds=time.monotonic() - began))

    def _begin(self, work: Work) -> longer.Parts:
        """What the stage is, on disk before anything of it; the parts that it is trained in."""
        folder = work.run.stage(self.name)
        parts = longer.parts_of(folder, self.steps)
        ending = folder.done.find()
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.identity.write(self._identity(work) | ({longer.PARTS: parts} if parts else {}))
        if ending is not None and ending.step < self.steps:
            folder.done.forget()
        return parts

    def _train(self, work: Work, parts: longer.Parts) -> None:
        config, runtime, folder = work.config, work.runtime, work.run.stage(self.name)
        scaler = new_scaler(runtime)
        kit = Kit(config, runtime, scaler, work.weights, functools.partial(class_pixels, work))
        training = self.method.build(self, kit)
        why = obstacle(config.run.capture, runtime, training.step)
        if why and runtime.device.type == "cuda":
            log.info("%s: steps are not captured: %s", self.name, why)
        chosen = (
            kernels.of_steps(config.run.kernels, captured=not why) if runtime.device.type == "cuda" else frozenset()
        )
        schedule = longer.joined(training.recipe.schedule, parts)
        longer.tell(self.name, parts, self.steps, schedule)
        if odd := odd_rates(schedule, self.steps):
            log.warning("%s: %s", self.name, odd)
        recipe = replace(training.recipe, schedule=schedule)
        updater = Updater(training.step, recipe, config.guard, scaler, "" if why else self.name, chosen)
        loop = Loop(
            name=self.name,
            folder=folder.path,
            steps=self.steps,
            updater=updater,
            open_streams=lambda start: self.method.streams(self, work, start),
            config=config,
            runtime=runtime,
            tracker=work.tracker,
            stop=work.stop,
            meta={"stage": self.name, "seed": config.run.seed, **self._card(config)},
            score=score_while_training(self, updater.networks(), work),
        )
        before = tuple((until, asked) for until, asked in parts)
        work.tracker.record(events.Stage(self.name, "start", steps=self.steps, parts=before))
        history = memory.snapshot_path(config, runtime.device, work.run.path, self.name, runtime.rank)
        advice = memory.training_advice(config, runtime.precision)
        with memory.explained(f"{self.name}: training", advice, history), runtime.training.applied():
            loop.run()

    def _card(self, config: Config) -> dict[str, Any]:
        """What a checkpoint says of its segmenter."""
        return {KEY: Card.of(config).to_json()} if self.scored else {}

    def finish(self, work: Work) -> None:
        self.method.finish(self, work)
        if self.scored:
            score_final(self, work)

    def _record_end(self, work: Work) -> None:
        """Rank 0 wrote the final checkpoint; the others may be here before it is there."""
        final = work.final(self.name)
        state, meta = checkpoint.load(final)
        digest = checkpoint.weights_sha256(state[self.result])
        work.run.stage(self.name).done.write(Ending(self.name, self.steps, final.name, digest, meta["elapsed"]))

    def _identity(self, work: Work) -> dict[str, Any]:
        names = {self.needs[role] for role in INHERITED if role in self.needs}
        weights = {name: work.weights_sha256(name) for name in names}
        return self.identity(work.config, work.runtime.precision, work.runtime.world, weights)
