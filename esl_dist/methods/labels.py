"""The node between a teacher and those who learn from it: its label sets, from one pass over the target set."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from esl_dist.config.check import require
from esl_dist.config.schema import Config
from esl_dist.distributed import collectives
from esl_dist.distributed.collectives import agree
from esl_dist.engine import checkpoint
from esl_dist.labelling import gather_evidence, open_extraction, require_held_out, rules_of
from esl_dist.methods import identity
from esl_dist.methods.node import Node, Work
from esl_dist.monitor import memory
from esl_dist.pseudo_labels.sets.agreement import agreement
from esl_dist.pseudo_labels.sets.label_sets import LabelSet
from esl_dist.runs import CheckpointFolder, RunFolder, events
from esl_dist.runs.content import LabelsMade, MadeSet
from esl_dist.runs.folders import LabelSetFolder, TeacherFolder

log = logging.getLogger(__name__)

SECTIONS = ("pseudo_labels", "extract")
PER_SET = ("pseudo_labels.rule",)


@dataclass(frozen=True)
class Labels:
    """The label sets of one teacher, for every rule that somebody learns from."""

    teacher: str
    """The stage whose network makes them."""
    entries: tuple[str, ...]
    """The words of ``run.stages`` that learn from them."""
    rules: Mapping[str, str]
    """Name of a set under ``pseudo_labels/`` -> rule."""
    round: int = 1
    before: Mapping[str, str] = field(default_factory=dict)
    """Name of a set -> that of the round before, which it is compared with."""

    @property
    def name(self) -> str:
        return f"labels of {self.teacher}"

    @property
    def needs(self) -> Mapping[str, str]:
        return {"teacher": self.teacher}

    def joined(self, other: Node) -> Labels:
        """Both nodes' sets in one: a teacher looks at the target set once."""
        assert isinstance(other, Labels) and (other.teacher, other.round) == (self.teacher, self.round)
        return dataclasses.replace(
            self,
            entries=(*self.entries, *other.entries),
            rules={**self.rules, **other.rules},
            before={**self.before, **other.before},
        )

    def folders(self, run: RunFolder) -> list[Path]:
        return [run.labels.of(self.teacher).path, *(run.labels.set(name).path for name in self.rules)]

    def check(self, work: Work) -> None:
        made = self._folder(work).made.find()
        if made is not None:
            identity.refuse(self._folder(work).path, identity.difference(made.identity, self._identity(work)))

    def check_others(self, nodes: Sequence[Node], work: Work) -> None:
        """Whoever learned from the sets says so in his own identity. What can be known before the first step is found
        here: on every host the spool's place can be made, a spool that is named is there, and so is the held-out split.
        """
        place = work.config.extract.spool_dir
        agree(lambda: Path(place).mkdir(parents=True, exist_ok=True) if place and not work.runtime.local_rank else None)
        if not self._folder(work).made.exists():
            agree(lambda: self._require_given(work.config))

    def _require_given(self, config: Config) -> None:
        given = config.extract.from_spool if self.round == 1 else ""
        require(
            not given or os.path.isdir(given),
            "extract.from_spool",
            f"no folder {given}; leave it out, and the network is run",
        )
        if not given:
            require_held_out(config)

    def is_done(self, work: Work) -> bool:
        """Whether every set was made by this very teacher and has a label of every image that could be read."""

        def verdict() -> bool:
            made = self._folder(work).made.find()
            if made is None or not self.rules.keys() <= made.sets.keys():
                return False
            wanted = set(work.target.names)
            return all(_has(work.run.labels.set(name), wanted) for name in self.rules)

        done = agree(lambda: verdict() if work.runtime.is_main else False)
        return bool(collectives.broadcast_json(done))

    def found(self, work: Work) -> None:
        """Its sets were recorded when they were made; what has since been asked to be measured is not."""
        evidence = agree(lambda: self._folder(work).evidence.find() or {} if work.runtime.is_main else {})
        if work.config.extract.compare and work.runtime.is_main and "confidences" not in evidence:
            log.warning(
                "%s were made before extract.compare was set, so no confidences are compared; that is done by:"
                " esl_dist extract --evidence --config %s --checkpoint %s --out FOLDER",
                self.name,
                work.run.config,
                work.final(self.teacher),
            )

    def make(self, work: Work) -> None:
        """Score the target set once and write the sets that are missing."""
        began = time.monotonic()
        teacher = work.final(self.teacher)
        given = work.config.extract.from_spool if self.round == 1 else ""
        digest = checkpoint.file_sha256(teacher, CheckpointFolder(teacher).segmenter.name)
        spool = Path(given) if given else work.run.labels.spool(digest)
        with memory.explained(self.name, "lower extract.batch, or extract.size"):
            extraction = open_extraction(
                work.config,
                teacher,
                work.target,
                work.runtime,
                spool,
                sha256=digest,
                from_spool=bool(given),
                stop=lambda: work.stop.local,
            )
            rules = rules_of(work.config, self.rules)
            folder = self._folder(work)
            known = collectives.broadcast_json(folder.evidence.exists())
            if not given and not known:
                gather_evidence(work.config, teacher, work.target, work.runtime, folder, lambda: work.stop.local)
            made = extraction.make(rules, work.run.labels.path, folder.path, self.round - 1)
        for name, label_set in zip(self.rules, made, strict=True):
            if label_set.made:
                self._tell(name, label_set, bool(given), work)
        if work.runtime.is_main:
            sets = {
                name: MadeSet(s.rule, s.thresholds["labels"], s.thresholds.get("weights", ""))
                for name, s in zip(self.rules, made, strict=True)
            }
            known = self._folder(work).made.find()
            seconds = time.monotonic() - began
            self._folder(work).made.write(
                LabelsMade(
                    self.teacher,
                    self.round,
                    digest,
                    {**(known.sets if known else {}), **sets},
                    str(spool.resolve()),
                    seconds,
                    self._identity(work),
                )
            )
        collectives.barrier()

    def finish(self, work: Work) -> None:
        """Nothing follows."""

    def _tell(self, name: str, made: LabelSet, from_spool: bool, work: Work) -> None:
        kept = sum(entry["kept"] for entry in made.thresholds["classes"])
        total = sum(entry["count"] for entry in made.thresholds["classes"])
        before = self.before.get(name)
        shared = agreement(work.run.labels.set(before).path, made.out, work.target.names) if before else {}
        event = events.Labels(
            name,
            made.rule,
            self.teacher,
            self.round,
            kept / max(total, 1),
            total,
            made.thresholds["labels"] + made.thresholds.get("weights", ""),
            "not run" if from_spool else "run",
            **shared,
        )
        work.tracker.record(event)

    def _folder(self, work: Work) -> TeacherFolder:
        return work.run.labels.of(self.teacher)

    def _identity(self, work: Work) -> dict[str, Any]:
        found = identity.options(work.config, SECTIONS, PER_SET)
        found |= {
            "selftrain.label_weight": work.config.selftrain.label_weight,
            "round": self.round,
            "weights of teacher": work.weights_sha256(self.teacher),
        }
        return identity.json_ready(found)


def _has(folder: LabelSetFolder, names: set[str]) -> bool:
    """Whether a finished set has the label of each of these images, or names it as unreadable, and no other's."""
    made = folder.thresholds.find()
    return made is not None and {*folder.names(), *made.get("unreadable", {})} == names
