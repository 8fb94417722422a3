"""A run's folder and what lies below it, as typed paths and records. Nothing outside this room spells the name of a
file of a run.

``<run>/{config.yaml, metrics.jsonl, log.txt, report.html, mlflow.json}``, ``<run>/<stage>/{stage.json, done.json,
metrics-*.json, checkpoints/}``, ``<run>/pseudo_labels/{<set>/, of-<teacher>/, spool/<weights>/}``. These are names
alone: nothing is opened or made until it is asked for.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from esl_dist.runs.content import Colours, Ending, LabelsMade, Scores, Selection, Thresholds
from esl_dist.runs.records import Record

STATISTICS = ("running", "target")
"""Batch-norm statistics that a network may be scored with, in the order of the tables."""

_AGAIN = "delete it and run the stage's command again"
_TEACHER = "of-"
_PHOTO = ".jpg"


@dataclass(frozen=True)
class RunFolder:
    """``runs/<name>``."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration, as it was asked for. A folder that has none is no run's."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """The truth about a run: see ``runs.lines``."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def mirror(self) -> Path:
        """What the MLflow mirror knows about the run."""
        return self.path / "mlflow.json"

    @property
    def mirror_lock(self) -> Path:
        return self.path / ".mlflow.lock"

    @property
    def mirror_database(self) -> Path:
        """Where runs beside this one are mirrored to, unless another place is named."""
        return self.path.resolve().parent / "mlflow.db"

    @property
    def tensorboard(self) -> Path:
        """Event files of TensorBoard."""
        return self.path / "tensorboard"

    @property
    def lock(self) -> Path:
        """Held by whoever works in the folder."""
        return self.path / ".lock"

    @property
    def flight_recorder(self) -> Path:
        """What each rank was waiting for when a collective stalled."""
        return self.path / "flight_recorder"

    def data_check(self, domain: str) -> Path:
        """The doctor's contact sheet of ``source`` or ``target``."""
        return self.path / "data_check" / f"{domain}.png"

    def trace(self, stage: str, rank: int) -> Path:
        """A profiler's trace of a few steps."""
        return self.path / "profile" / f"{stage}_rank{rank}.json.gz"

    def memory_history(self, stage: str, rank: int) -> Path:
        return self.path / "profile" / f"{stage}_rank{rank}_memory.pickle"

    def stage(self, name: str) -> StageFolder:
        return StageFolder(self.path / name)

    @property
    def labels(self) -> LabelsFolder:
        return LabelsFolder(self.path / "pseudo_labels")


@dataclass(frozen=True)
class StageFolder:
    """``<run>/<stage>``: one trained network."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.path.parent)

    @property
    def identity(self) -> Record[dict[str, Any]]:
        """Options that the stage's result is a function of."""
        return Record(
            self.path / "stage.json",
            dict[str, Any],
            "delete the stage's folder and run the same command again to make it anew",
        )

    @property
    def done(self) -> Record[Ending]:
        return Record(self.path / "done.json", Ending, "delete it, and the stage ends again from its newest checkpoint")

    @property
    def checkpoints(self) -> Path:
        """Folders ``step_<number>``; ``engine.checkpoint`` reads and writes them."""
        return self.path / "checkpoints"

    @property
    def final(self) -> Path | None:
        """The checkpoint that the stage ended with, None while it has not ended. ``Damaged`` where ``done.json`` is."""
        ending = self.done.find()
        return None if ending is None else self.checkpoints / ending.checkpoint

    def scores(self, statistics: str) -> Record[Scores]:
        """Of the final network, under one kind of batch-norm statistics."""
        return Record(self.path / f"metrics-{statistics}.json", Scores, _AGAIN)

    @property
    def predictions(self) -> Path:
        """Label maps of a few scored images by the network that was scored last, the same images for every stage."""
        return self.path / "predictions"

    def prediction(self, name: str) -> Path:
        """Of one image; ``ValueError`` for a name that would leave the folder."""
        return _inside(self.predictions, name)

    def predicted(self) -> list[str]:
        """Names of the images in ``predictions``, in order."""
        return _names(self.predictions)

    def strips(self, step: int) -> Path:
        """Image, truth and prediction side by side, small, of the images in ``predictions`` as they were scored after a
        step: what trackers show.
        """
        return self.path / "strips" / f"step_{step:08d}"

    def strip(self, step: int, name: str) -> Path:
        """Of one image; ``ValueError`` for a name that would leave the folder."""
        return _inside(self.strips(step), name, _PHOTO)

    def stripped(self, step: int) -> list[str]:
        """Names of the images in ``strips``, in order."""
        return _names(self.strips(step), _PHOTO)

    @property
    def extremes(self) -> Path:
        """Label maps of the scored images that the final network is worst and best at."""
        return self.path / "extremes"

    def extreme(self, name: str) -> Path:
        """Of one image; ``ValueError`` for a name that would leave the folder."""
        return _inside(self.extremes, name)

    @property
    def translated(self) -> Path:
        """The source set in the target's look, as a translation rewrote it."""
        return self.path / "source"

    @property
    def translated_files(self) -> Path:
        """What that set holds, written last."""
        return self.path / "source.json"

    @property
    def look(self) -> Record[dict[str, Colours]]:
        """Colours of the source, translated and target images."""
        return Record(self.path / "look.json", dict[str, Colours], _AGAIN)

    @property
    def pictures(self) -> Path:
        """Images there and back, ``<domain>-<number>-<step>.png``."""
        return self.path / "pictures"

    def picture(self, domain: str, number: int, step: int) -> Path:
        """Image ``number`` of ``source`` or ``target``: 0 as it is, 1 translated, 2 and back."""
        return self.pictures / f"{domain}-{number}-{step}.png"


@dataclass(frozen=True)
class LabelSetFolder:
    """``<run>/pseudo_labels/<set>``, or the folder that ``extract`` writes to: one set of pseudo-labels."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def thresholds(self) -> Record[Thresholds]:
        """Written last: a set without it is not finished."""
        return Record(
            self.path / "thresholds.json",
            Thresholds,
            "delete it and run the same command again to make the labels anew",
        )

    @property
    def labels(self) -> Path:
        """PNGs of class ids, 255 for none."""
        return self.path / "labels"

    @property
    def weights(self) -> Path:
        """PNGs of pixel weights, where there are any."""
        return self.path / "weights"

    @property
    def spool(self) -> Path:
        """The network's outputs, where ``extract`` wrote the set by itself."""
        return self.path / "spool"

    @property
    def selection(self) -> Record[Selection]:
        return TeacherFolder(self.path).selection

    def label(self, name: str) -> Path:
        """The label of an image; ``ValueError`` for a name that would leave the folder."""
        return _inside(self.labels, name)

    def weight(self, name: str) -> Path:
        """Likewise its weights."""
        return _inside(self.weights, name)

    def names(self) -> list[str]:
        """Names of the images that have a label, in order."""
        return _names(self.labels)


@dataclass(frozen=True)
class TeacherFolder:
    """``<run>/pseudo_labels/of-<stage>``: what one teacher's extraction left beside its label sets (``extract`` puts it
    into its own folder).
    """

    path: Path

    @property
    def made(self) -> Record[LabelsMade]:
        """Written last: without it the teacher's label sets are made, or made sure of, again."""
        return Record(
            self.path / "labels.json", LabelsMade, "delete it, and the same command makes sure of the labels again"
        )

    @property
    def selection(self) -> Record[Selection]:
        return Record(self.path / "selection.json", Selection, "delete it and extract again")

    @property
    def evidence(self) -> Record[dict[str, Any]]:
        """What was measured about the teacher before its labels were made."""
        return Record(self.path / "evidence.json", dict[str, Any], "delete it and extract again")

    @property
    def selection_page(self) -> Path:
        return self.path / "selection.html"


@dataclass(frozen=True)
class LabelsFolder:
    """``<run>/pseudo_labels``."""

    path: Path

    def set(self, name: str) -> LabelSetFolder:
        return LabelSetFolder(self.path / name)

    def sets(self) -> list[LabelSetFolder]:
        """The finished label sets, by name."""
        found = sorted(self.path.iterdir()) if self.path.is_dir() else []
        return [folder for path in found if (folder := LabelSetFolder(path)).thresholds.exists()]

    def of(self, teacher: str) -> TeacherFolder:
        """``teacher``: name of the stage whose network makes the labels."""
        return TeacherFolder(self.path / f"{_TEACHER}{teacher}")

    def teachers(self) -> list[TeacherFolder]:
        """Those that left anything; runs of releases before 0.2 kept one selection, in ``pseudo_labels/`` itself, which
        comes last.
        """
        return [*(TeacherFolder(path) for path in sorted(self.path.glob(f"{_TEACHER}*"))), *self._earlier()]

    def spool(self, weights_sha256: str, spool_dir: str = "") -> Path:
        """Where the outputs of the network with these weights are kept: below the run, or in ``extract.spool_dir``."""
        return spool_folder(self.path / "spool" / weights_sha256[:12], spool_dir)

    def _earlier(self) -> Iterator[TeacherFolder]:
        folder = TeacherFolder(self.path)
        if folder.selection.exists():
            yield folder


def spool_folder(spool: Path, spool_dir: str) -> Path:
    """``spool``, or a folder of its own under ``spool_dir`` (``$VARIABLES`` and ``~`` are expanded)."""
    if not spool_dir:
        return spool
    name = hashlib.sha256(str(spool.absolute()).encode()).hexdigest()[:12]
    return Path(os.path.expandvars(spool_dir)).expanduser() / f"esl_dist-spool-{name}"


def _names(folder: Path, suffix: str = ".png") -> list[str]:
    found = (path.relative_to(folder).as_posix() for path in folder.rglob(f"*{suffix}"))
    return sorted(path.removesuffix(suffix) for path in found)


def _inside(folder: Path, name: str, suffix: str = ".png") -> Path:
    pure = PurePosixPath(name)
    if not name or pure.is_absolute() or ".." in pure.parts:
        raise ValueError(f"image name {name!r} points outside the label folder")
    return folder / f"{name}{suffix}"
