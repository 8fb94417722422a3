"""Pseudo-labels of a whole target set: one inference pass, any number of rules, the same labels for every number of
ranks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from esl_dist.config.schema import ExtractConfig, PseudoLabelConfig
from esl_dist.distributed import collectives
from esl_dist.distributed.in_step import Stop, in_step, never
from esl_dist.pseudo_labels.scores.scored import ScoredImages
from esl_dist.pseudo_labels.scores.scorer import scoring
from esl_dist.pseudo_labels.sets import evidence, files, held
from esl_dist.pseudo_labels.sets import fingerprint as prints
from esl_dist.pseudo_labels.sets import spool as storage
from esl_dist.pseudo_labels.sets.evidence import Truth
from esl_dist.pseudo_labels.sets.forward import OutputSize, TargetImages
from esl_dist.pseudo_labels.sets.images import Inferred, Readout
from esl_dist.pseudo_labels.sets.label_sets import Job, LabelSet, Task, Writing, finished, identity
from esl_dist.pseudo_labels.sets.spool_folder import SpoolFolder, stored_layout
from esl_dist.pseudo_labels.sets.teacher import Gaze, Teacher
from esl_dist.pseudo_labels.sets.views import Views
from esl_dist.pseudo_labels.thresholds.rules import kind_of, relabels
from esl_dist.pseudo_labels.thresholds.two_passes import Choice, Selection, choose
from esl_dist.runs import TeacherFolder
from esl_dist.runs.folders import spool_folder

Rules = Mapping[str, PseudoLabelConfig]
"""Label set's name to its rule."""


@dataclass(frozen=True)
class Extraction:
    """One network over one target set, with a spool between the forward and the rules.

    :meth:`make` is the whole of it: what is finished is recognised, what is spooled is not inferred again, what a rule
    lacks in the spool is added. Its parts are :meth:`score`, :meth:`threshold` and :meth:`write`. All are collective,
    and raise ``ValueError``, the same on all ranks, for anything the user can mend.
    """

    teacher: Teacher
    images: TargetImages
    config: ExtractConfig
    spool: Path
    from_spool: bool = False
    """Threshold again what an earlier pass left in the spool; the network is never run."""
    truth: Truth | None = None
    """Ground truth that label sets are judged by; no threshold looks at it."""
    weights: bool = False
    """Whether every label PNG gets one of weights beside it (see ``sets/label_weights.py``)."""
    report: Callable[[str], None] = lambda line: None
    stop: Stop = never
    """Asked every few images; what is spooled by then stays (``StoppedBySignal``)."""

    def __post_init__(self) -> None:
        files.check_names(self.images.names)
        if not self.images.names:
            raise ValueError("the target set is empty, so there is nothing to label")
        files.check_classes(self.teacher.num_classes)

    def make(self, rules: Rules, sets: Path, record: Path, round_index: int = 0) -> list[LabelSet]:
        """Every label set of ``rules`` in ``sets/<name>``, in their order; ``record/selection.json`` says what there is
        to learn from those that were not there.

        Args:
            round_index: round of self-training, 0-based (CBST's portion grows with it).

        Raises:
            ValueError: rules that cannot share an extraction, another network's spool, logits that are not finite, a
                full disk.
            StoppedBySignal: ``stop`` said so on some rank.
        """
        groups: dict[Views, dict[str, PseudoLabelConfig]] = {}
        for name, setting in rules.items():
            groups.setdefault(Views.of(setting), {})[name] = setting
        done: dict[str, LabelSet] = {}
        learned: list[dict[str, Any]] = []
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.teacher.arithmetic())
            for views, part in groups.items():
                _, temperature = Gaze.sort(list(part.values()))
                gaze = Gaze(self.teacher, self.images, self.config.batch, temperature, views, stack, self.report)
                done |= self._make(gaze, part, sets, round_index, learned)
        if learned:
            found = evidence.merged(learned)
            if collectives.is_main():
                TeacherFolder(record).selection.write(cast(Any, found))
            self.report(evidence.table(found))
        return [done[name] for name in rules]

    def _make(
        self, gaze: Gaze, rules: Rules, sets: Path, round_index: int, learned: list[dict[str, Any]]
    ) -> dict[str, LabelSet]:
        """The sets of rules that look at the same logits; what is to be learned from those that were not there is added
        to ``learned``.
        """
        given = gaze.given
        if self.from_spool:
            given = {**stored_layout(self.folder(gaze.views), given).given, **given}
        size = self._how("").strip()
        about = {"size": size, "checkpoint": given.get("checkpoint"), "fingerprint": given}
        task = Task(self.images.names, self.teacher.class_names, round_index, about, self.weights)
        jobs = [Job(name, setting, sets / name, identity(setting, task)) for name, setting in rules.items()]
        done = {job.name: there for job in jobs if (there := finished(job, task)) is not None}
        for name in done:
            self.report(f"labels {name}: already there")
        todo = [job for job in jobs if job.name not in done]
        if todo:
            settings = [job.setting for job in todo]
            images = self.score(gaze, settings)
            chosen = self.threshold(images, settings, round_index)
            left_out = self.images.left_out()
            for reason in left_out.values():
                self.report(f"left out: {reason}")
            made, found = self.write(chosen, todo, dataclasses.replace(task, left_out=left_out))
            if images.costly:
                gaze.check_canary()
            learned.append(found)
            done |= {job.name: label_set for job, label_set in zip(todo, made, strict=True)}
        return done

    def score(self, gaze: Gaze, settings: Sequence[PseudoLabelConfig]) -> ScoredImages:
        """This rank's share of the images with every confidence that ``settings`` read: inferred, or from what is
        spooled.
        """
        mode, _ = Gaze.sort(settings)
        scorer = scoring(mode, self.teacher.device)
        self.report(f"scores: {scorer.name}")
        width, height = self.config.size
        size: OutputSize = self.images.output_size or (lambda index: (height, width))
        kinds = tuple(sorted({kind_of(setting) for setting in settings}))
        readout = Readout(scorer, size, kinds, self._how(mode), self.teacher.num_classes)
        logits = any(relabels(setting) for setting in settings)
        spooled = SpoolFolder(self.folder(gaze.views), self.images, readout, logits, self.teacher.device)
        if self.from_spool:
            return spooled.complete()
        full = {
            **gaze.given,
            **prints.stack(self.teacher.device),
            "names": prints.names_digest(self.images.names),
            "batch": self.config.batch,
            "input size": list(self.images.input_size),
        }
        content = self._content(logits)
        if content is None and (images := self._unspooled(gaze, readout, full)) is not None:
            return images
        content = content or "logits"
        return spooled.filled(
            gaze, storage.Layout(content, full, gaze.given, readout.how), self.config.shard, self.report, self.stop
        )

    def _unspooled(self, gaze: Gaze, readout: Readout, full: prints.Fingerprint) -> ScoredImages | None:
        """No files: the logits held in the device's memory, or the forward run anew in every pass. None where they are
        to be held and some rank's do not fit.
        """
        told, shape = gaze.canary()
        prints.same_on_all_ranks({**full, **told})
        names = self.images.names
        mine = list(range(len(names)))[collectives.rank() :: collectives.world()]
        if self.config.spool == "none":
            return Inferred(gaze.logits, mine, names, readout)
        needed, room = held.bytes_of(shape) * len(mine), held.room(self.config.memory, self.teacher.device)
        if collectives.all_sum(int(needed > room)):
            self.report(
                f"extract.spool=memory: {needed / 1e9:.2f} GB of logits on a rank are more than the "
                f"{room / 1e9:.2f} GB that they may take (extract.memory); they are spooled on disk"
            )
            return None
        store = held.Store(names, self.report)
        in_step(store.fill(gaze.logits(mine), len(mine)), self.stop)
        gaze.check_canary()
        return held.Held(store.logits, names, readout)

    def threshold(self, images: ScoredImages, settings: Sequence[PseudoLabelConfig], round_index: int = 0) -> Choice:
        """Exact thresholds of every setting over the images of all ranks."""
        return choose(
            images,
            Selection(settings, self.teacher.num_classes, round_index, self.weights),
            len(self.images.names),
            self.stop,
            self.report,
        )

    def write(self, chosen: Choice, jobs: Sequence[Job], task: Task) -> tuple[list[LabelSet], dict[str, Any]]:
        """The PNGs of this rank's images and one ``thresholds.json`` per job; and what there is to learn from them."""
        return Writing(jobs, task, self.truth, self.report, self.stop)(chosen)

    def folder(self, views: Views) -> Path:
        """Where the logits that these views give are spooled: ``spool``, or a folder of its own under
        ``extract.spool_dir``.
        """
        place = spool_folder(self.spool, self.config.spool_dir)
        return place if views.plain else place / f"views-{hashlib.sha256(str(views).encode()).hexdigest()[:8]}"

    def _how(self, mode: str) -> str:
        width, height = self.config.size
        return f"{mode} {'own sizes' if self.images.output_size else f'{width}x{height}'}"

    def _content(self, logits: bool) -> storage.Content | None:
        """What new spool files hold, None for no spool; ``ValueError`` where a rule needs what they would not hold."""
        wanted = self.config.spool
        if wanted == "auto":
            return "logits" if logits or self.teacher.device.type == "cuda" else "scores"
        if logits:
            require_logits(wanted)
        return wanted if wanted == "scores" or wanted == "logits" else None


def require_logits(spool: str) -> None:
    """``ValueError`` where ``extract.spool`` keeps less than a rule reads that compares all classes of a pixel."""
    if spool == "scores":
        raise ValueError(
            "extract.spool: scores hold one class per pixel, but pseudo_labels.rule=cbst compares all; set "
            "extract.spool=logits"
        )
