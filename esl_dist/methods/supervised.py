"""Training on labels: source-only, the oracle on target labels, and the initial weights of the embedded pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from esl_dist.config.check import require
from esl_dist.config.entries import Entry
from esl_dist.config.schema import Config, SupervisedConfig
from esl_dist.data.dataset import Dataset
from esl_dist.data.rare_classes import RareClasses
from esl_dist.distributed import ddp
from esl_dist.distributed.collectives import agree
from esl_dist.engine.step import Losses, Pair, Streams
from esl_dist.labels import Protocol, protocol
from esl_dist.losses.class_weights import COUNTED, class_weights
from esl_dist.methods import identity
from esl_dist.methods.counting import rare_classes
from esl_dist.methods.draws import Draws, Keys, drawn_by, on_the_host, step_of
from esl_dist.methods.kit import Kit, Training
from esl_dist.methods.networks import passes_of, segmenter_recipe, trained_segmenter
from esl_dist.methods.node import Node, Work
from esl_dist.methods.passes import Passes, add_losses, labelled_loss
from esl_dist.methods.planning import images, last, needs, translated_mark
from esl_dist.methods.stage import Role, Stage
from esl_dist.methods.streams import OTHER_ORDER, labelled, source_of


@dataclass
class Supervised:
    """``CE(main) + aux_weight * CE(aux)``, a mean over the valid pixels of the global batch, weighted by class if asked
    for.
    """

    segmenter: nn.Module
    passes: Passes
    num_classes: int
    aux_weight: float = 0.1
    class_weights: Tensor | None = None
    """Weight of a pixel by its train id, float32 ``[256]``, 0 for ignored ones; None where all weigh alike."""
    needs_target: bool = False

    @property
    def host_work(self) -> str:
        return on_the_host(self.segmenter)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"segmenter": self.segmenter}

    @property
    def unmeasured(self) -> str:
        return drawn_by(self.segmenter)

    def step(self, micro: Sequence[Pair]) -> Losses:
        """Gradients of one optimiser step, summed over its micro-batches."""
        return self.take(micro, self.prepare(micro))

    def prepare(self, micro: Sequence[Pair]) -> list[Keys | None]:
        number = step_of(micro[0].source.positions, len(micro), self.passes.runtime.world)
        draws = [Draws("source", number, pair.source.positions) for pair in micro]
        return [self.passes.keys(self.segmenter, own) for own in draws]

    def take(self, micro: Sequence[Pair], prepared: Sequence[Keys | None]) -> Losses:
        labels = [pair.source.labels for pair in micro if pair.source.labels is not None]
        if self.class_weights is None:
            valid = self.passes.globally_valid(labels, self.num_classes)
        else:
            valid = self.passes.globally_weighed(labels, self.class_weights)
        losses: Losses = {}
        for pair, keys in zip(micro, prepared, strict=True):
            assert pair.source.labels is not None
            with ddp.sync_if(self.segmenter, pair is micro[-1]):
                prediction = self.passes.forward(self.segmenter, pair.source.images, keys=keys)
                found = self.passes.labels(pair.source.labels)
                weights = None if self.class_weights is None else self.class_weights[found.long()]
                loss, parts = labelled_loss(prediction, found, valid, (1.0, self.aux_weight), "source", weights)
                self.passes.backward(loss)
            add_losses(losses, parts)
        return losses


@dataclass(frozen=True)
class OnLabels:
    """The methods that train on labels alone, which differ in whose labels these are and what they start from."""

    name: str
    title: str
    role: Role
    colour: str
    on_target: bool = False
    """Learns the target's labels: the oracle, that no adaptation can beat by right."""
    from_scratch: bool = False
    """Makes initial weights; the others start from those, where there are any."""

    def plan(self, entry: Entry, config: Config, before: Sequence[Node]) -> Sequence[Node]:
        require(not entry.variant, "run.stages", f"{entry.word!r}: {self.name} takes no variant after the colon")
        if self.on_target or self.from_scratch:
            require(not entry.images, "run.stages", f"{entry.word!r}: +it is for source, align and selftrain")
        if self.on_target:
            require(
                config.data.target.labelled,
                "run.stages",
                f"{self.name} trains on target labels, but data.target.labelled is false",
            )
        return [
            Stage(
                entry.word,
                entry.folder,
                self,
                getattr(config, self.name).steps,
                self.title + translated_mark(entry),
                self.role,
                self.colour,
                needs(init="" if self.from_scratch else last(before, "start"), images=images(entry, before)),
            )
        ]

    def identity(self, stage: Stage, config: Config) -> dict[str, Any]:
        own: SupervisedConfig = getattr(config, self.name)
        named = ("class_weights", "rare_temperature", "rare_pixels")
        return {
            **identity.options(config, ("data", "model", "optim")),
            **{f"{self.name}.{name}": getattr(own, name) for name in named},
        }

    def build(self, stage: Stage, kit: Kit) -> Training:
        config = kit.config
        initial = kit.weights(stage.needs.get("init", ""))
        segmenter = trained_segmenter(kit, initial, learns_aux=config.align.source_aux > 0)
        classes = protocol(config.data.classes).num_classes
        weights = self._weights(kit, getattr(config, self.name).class_weights)
        step = Supervised(segmenter, passes_of(kit), classes, config.align.source_aux, weights)
        return Training(step, segmenter_recipe(config.optim, stage.steps))

    def _weights(self, kit: Kit, words: str) -> Tensor | None:
        """By train id, ``[256]``."""
        if words == "none":
            return None
        table = protocol(kit.config.data.classes)
        pixels = kit.pixels("target" if self.on_target else "source") if words in COUNTED else None
        by_id = torch.zeros(256, dtype=torch.float32)
        by_id[: table.num_classes] = torch.from_numpy(agree(lambda: self._class_weights(words, table, pixels)))
        return by_id.to(kit.runtime.device)

    def _class_weights(self, words: str, table: Protocol, pixels: NDArray[np.int64] | None) -> NDArray[np.float64]:
        try:
            return class_weights(words, table, pixels)
        except ValueError as error:
            raise ValueError(f"{self.name}.{error}") from None

    def streams(self, stage: Stage, work: Work, start: int) -> Streams:
        data = work.config.data
        dataset, domain = (work.target, data.target) if self.on_target else (source_of(work, stage), data.source)
        own: SupervisedConfig = getattr(work.config, self.name)
        view: dict[str, Any] = {}
        if own.rare_temperature:
            view["rare"] = self._rare_classes(work, dataset)
        # Initial weights see another order, so that no stage repeats it; the stages that are compared share theirs.
        return labelled(work, dataset, domain, start, OTHER_ORDER if self.from_scratch else 0, **view)

    def _rare_classes(self, work: Work, dataset: Dataset) -> RareClasses:
        own: SupervisedConfig = getattr(work.config, self.name)
        return rare_classes(work, dataset, own.rare_temperature, own.rare_pixels, self.name)

    def foresee(self, stage: Stage, work: Work) -> None:
        """``ValueError`` where weights are not of these classes, or no image has enough pixels of a class."""
        own: SupervisedConfig = getattr(work.config, self.name)
        if own.class_weights != "none" and own.class_weights not in COUNTED:
            self._class_weights(own.class_weights, protocol(work.config.data.classes), None)
        if own.rare_temperature and not stage.needs.get("images"):
            self._rare_classes(work, work.target if self.on_target else work.source)

    def finish(self, stage: Stage, work: Work) -> None:
        """Nothing beside scores."""


INITIAL = OnLabels("initial", "initial weights", "start", "#9aa3ad", from_scratch=True)
SOURCE = OnLabels("source", "source-only", "baseline", "#4b5563")
ORACLE = OnLabels("oracle", "oracle", "bound", "#111827", on_target=True)
