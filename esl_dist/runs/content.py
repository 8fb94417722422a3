"""What the records of a run hold, field by field. A TypedDict lists what the program reads of a file that says more."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

_CHECKPOINT = re.compile(r"step_\d{8,}")


@dataclass(frozen=True)
class Ending:
    """``done.json``: a stage has ended. It is the last thing that a stage writes."""

    stage: str
    step: int
    checkpoint: str
    """Name of the folder below ``checkpoints/``."""
    weights_sha256: str
    seconds: float = 0.0
    """Training took so long, over all starts."""

    def __post_init__(self) -> None:
        if not _CHECKPOINT.fullmatch(self.checkpoint):
            raise ValueError(
                f"checkpoint: {self.checkpoint!r} is no checkpoint's name (step_ and eight digits or more)"
            )


@dataclass(frozen=True)
class Best:
    """``best.json``: the checkpoint that scored best while training; scores 0-1."""

    step: int
    score: float


class FileEntry(TypedDict):
    """One file of a checkpoint."""

    sha256: str
    size: int


class Manifest(TypedDict):
    """``manifest.json`` of a checkpoint; ``engine.checkpoint.manifest`` seals it in its own way."""

    schema_version: int
    step: int
    code_version: str
    files: dict[str, FileEntry]
    meta: dict[str, Any]


class Scores(TypedDict):
    """``metrics-<statistics>.json``; scores 0-1, None where a class is absent."""

    miou: float | None
    iou: dict[str, float | None]
    miou_star: NotRequired[float | None]
    confusion: NotRequired[list[list[int]]]
    images: NotRequired[int]
    split: NotRequired[str]
    at: NotRequired[str]
    options: NotRequired[dict[str, Any]]
    """Of ``eval`` and others that decide a score; records of releases before 0.2 have none."""
    bn_statistics: NotRequired[str]
    step: NotRequired[int]
    weights_sha256: NotRequired[str]
    worst: NotRequired[list[tuple[str, float]]]
    """Images with the largest share of wrong pixels, and that share; ``best``: with the smallest."""
    best: NotRequired[list[tuple[str, float]]]


class ClassRow(TypedDict):
    """One class of a label set; pixels are counted over the whole target set."""

    name: str
    count: int
    median: float | None
    threshold: float | None
    kept: int
    coverage: NotRequired[float]
    wrong: NotRequired[float | None]


class Thresholds(TypedDict):
    """``thresholds.json`` of a label set."""

    classes: list[ClassRow]
    rule: NotRequired[str]
    confidence: NotRequired[str]
    images: NotRequired[int]
    pixels: NotRequired[int]
    coverage: NotRequired[float]
    checkpoint: NotRequired[str | None]
    labels: NotRequired[str]
    weights: NotRequired[str]
    identity: NotRequired[str]
    unreadable: NotRequired[dict[str, str]]


class SelectedSet(TypedDict):
    """One label set in ``selection.json``."""

    rule: str
    coverage: float
    wrong: float | None
    classes: list[ClassRow]


class Curve(TypedDict):
    """Coverage (and precision, with ground truth) over a bound."""

    bound: list[float]
    coverage: list[float | None]
    class_coverage: list[list[float | None]]
    precision: list[float | None] | None


class Selection(TypedDict):
    """``selection.json``: what an extraction teaches about its thresholds."""

    images: int
    pixels: int
    checkpoint: str | None
    ground_truth: bool
    sets: list[SelectedSet]
    agreement: dict[str, int] | None
    curves: dict[str, Curve]
    reliability: dict[str, dict[str, Any] | None] | None


@dataclass(frozen=True)
class MadeSet:
    """A label set as ``labels.json`` lists it."""

    rule: str
    labels: str
    """SHA-256 sum of its label files."""
    weights: str = ""
    """Of its files of pixel weights, where it has them."""


@dataclass(frozen=True)
class LabelsMade:
    """``labels.json``: a teacher's label sets are finished. It is the last thing that making them writes."""

    teacher: str
    """Stage folder."""
    round: int
    checkpoint: str
    """SHA-256 of the teacher's weights."""
    sets: dict[str, MadeSet]
    """Name under ``pseudo_labels/`` -> what was made."""
    spool: str = ""
    """Where the teacher's outputs are; empty where none were kept."""
    seconds: float = 0.0
    identity: dict[str, Any] = field(default_factory=dict)
    """Options that the sets are a function of, as ``stage.json`` has a stage's."""


@dataclass(frozen=True)
class TakenFrom:
    """``part.json`` of a trial: where its first stages come from."""

    part: str
    """Key of a folder below ``shared/``; empty where the trial trains everything itself."""


@dataclass(frozen=True)
class MadeOfPart:
    """``made.json`` of a part: what of it is finished."""

    made: tuple[str, ...]
    """``stages``, and the keys of spools."""
    stages: tuple[str, ...] = ()
    """Entries of ``run.stages``."""


@dataclass(frozen=True)
class Decision:
    """``decision.json`` of a trial: a scheduler's word to stop."""

    by: str


@dataclass(frozen=True)
class ServerRun:
    """``mlflow.json`` of a study or a trial: which run of which server stands for it, and what it was told last."""

    run_id: str
    uri: str
    experiment: str
    told: str = ""


class Colours(TypedDict):
    """Mean and deviation of R, G and B over a set's images, 0-255."""

    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class Holder:
    """``.lock``: who works in a folder."""

    host: str
    pid: int
    started: str
