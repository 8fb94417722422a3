"""The events of a run: one frozen dataclass for each kind of line in ``metrics.jsonl``, and what of it a tracking
server shows.

``to_line`` is what is written, ``from_line`` what is read; ``points`` names an event's numbers for MLflow and
TensorBoard, ``series`` says where they belong, so that every point is sent once. A line with an event of another
release is passed over by readers, not refused.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from esl_dist.runs.shape import shaped

# What MLflow allows in a metric's name.
_FORBIDDEN = re.compile(r"[^\w\-. :/]", re.ASCII)


class Point(NamedTuple):
    """One value of one metric; ``time_ms`` is Unix time in milliseconds."""

    name: str
    value: float
    step: int
    time_ms: int


class Series(NamedTuple):
    """Where an event belongs: events of one ``key`` arrive with a growing ``mark``, so a mark says how far a key was
    sent.
    """

    key: str
    mark: float


@dataclass(frozen=True)
class Stage:
    """A stage starts, ends, or is found finished."""

    kind: ClassVar[str] = "stage"
    stage: str
    status: Literal["start", "done", "skipped"]
    steps: int | None = None
    seconds: float | None = None
    parts: tuple[tuple[int, int], ...] = ()
    """Of one that is trained longer than it was first asked to: the step that each part before ended at, and the steps
    that were asked for then.
    """


@dataclass(frozen=True)
class Train:
    """What a training step reports."""

    kind: ClassVar[str] = "train"
    stage: str
    step: int
    steps: int = 0
    lr: float | None = None
    bad_samples: int = 0
    figures: dict[str, float | None] = field(default_factory=dict)
    """``loss/<name>``, a method's own (with a path), ``images_per_second``, ``step_seconds``, ``data_wait``; None for a
    number that is not finite.
    """


@dataclass(frozen=True)
class Eval:
    """A network was scored on labelled target images; scores 0-1, None where a class is absent."""

    kind: ClassVar[str] = "eval"
    stage: str
    step: int
    split: str = ""
    bn_statistics: str = "running"
    miou: float | None = None
    miou_star: float | None = None
    iou: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Gpu:
    """Figures of the GPUs of one node, sampled by its first rank: ``gpu0/utilisation`` and so on."""

    kind: ClassVar[str] = "gpu"
    stage: str
    step: int
    rank: int
    figures: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """A label set was made. ``stage`` is the teacher's; shares 0-1."""

    kind: ClassVar[str] = "labels"
    set: str
    rule: str
    stage: str
    round: int = 1
    coverage: float = 0.0
    pixels: int = 0
    labels: str = ""
    """SHA-256 sum of its label files (and of its weights' files)."""
    network: str = "run"
    """``run``, or ``not run`` where a spool was thresholded again."""
    both_kept: float | None = None
    """Share of the pixels that this set and the round before both label."""
    agreed: float | None = None
    """Share of the pixels that both label with the same class."""


@dataclass(frozen=True)
class Warned:
    """Something that a reader of the report should know."""

    kind: ClassVar[str] = "warning"
    text: str
    stage: str = ""
    step: int | None = None
    samples: tuple[str, ...] = ()


Event = Stage | Train | Eval | Gpu | Labels | Warned

KINDS: dict[str, type[Event]] = {made.kind: made for made in (Stage, Train, Eval, Gpu, Labels, Warned)}
STEP_EVENTS = (Train, Eval, Gpu)
"""Events that belong to a step, so that a resume must drop those beyond its checkpoint."""


def to_line(event: Event) -> dict[str, Any]:
    """The fields of an event's line, ``event`` first; what is not known is left out, ``figures`` stand
    beside the rest.
    """
    line: dict[str, Any] = {"event": event.kind}
    for entry in dataclasses.fields(event):
        value = getattr(event, entry.name)
        if entry.name == "figures":
            line |= value
        elif entry.default is dataclasses.MISSING or value != entry.default or value not in (None, "", ()):
            line[entry.name] = (
                list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value
            )
    return line


def from_line(line: Mapping[str, Any]) -> Event | None:
    """The event that a line records; None for one that this release does not know.

    Raises:
        ValueError: it lacks a field or holds another type; the message names the field.
    """
    kind = shaped(line.get("event"), str, "event")
    made = KINDS.get(kind)
    if made is None:
        return None
    names = {entry.name for entry in dataclasses.fields(made)}
    content = dict(line)
    if "figures" in names:
        content["figures"] = {key: value for key, value in line.items() if key not in names | {"event", "time"}}
    found: Event = shaped(content, made)
    return found


def series(event: Event, time: float) -> Series | None:
    """The series of an event; None for one that holds no metric. ``time``: Unix seconds of its line."""
    match event:
        case Train(stage=stage, step=step):
            return Series(f"train/{stage}", float(step))
        case Eval(stage=stage, step=step, split=split, bn_statistics=statistics):
            return Series(f"eval/{stage}/{split}/{statistics}", float(step))
        case Gpu(stage=stage, step=step, rank=rank):
            return Series(f"gpu/{stage}/{rank}", float(step))
        case Labels(set=name, stage=stage):
            return Series(f"labels/{name}/{stage}", float(time))
    return None


def points(event: Event, time: float) -> list[Point]:
    """The numbers of an event under names that say their stage: ``source/loss/seg``, ``align/miou/running``,
    ``pseudo_labels/esl-r2/coverage``.
    """
    stage = getattr(event, "stage", "") if isinstance(event, STEP_EVENTS) else ""
    return [point._replace(name=f"{_clean(stage)}/{point.name}" if stage else point.name) for point in own(event, time)]


def own(event: Event, time: float) -> list[Point]:
    """The numbers of an event, where a stage has a run of its own: ``loss/seg``, ``miou/running``."""
    step, time_ms = getattr(event, "step", None) or 0, int(1000 * time)
    found = (number for path, fields in _named(event) for number in _numbers(path, fields))
    return [Point(_clean(name), value, step, time_ms) for name, value in found]


def summary(event: Event, time: float) -> list[Point]:
    """Of an event of a stage, what the run as a whole shows: ``miou running/align``."""
    if not isinstance(event, Eval) or event.miou is None:
        return []
    name = f"miou {event.bn_statistics}/{event.stage}"
    return [Point(_clean(name), event.miou, event.step, int(1000 * time))]


def _clean(name: str) -> str:
    return _FORBIDDEN.sub("_", name)


def _named(event: Event) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The metrics of an event, with the path in front of their names. Trackers make a section of each path, in the
    order of the alphabet, and cut long names.
    """
    match event:
        case Train():
            yield "", {"lr": event.lr, "bad_samples": event.bad_samples, **event.figures}
        case Eval():
            yield "miou", {event.bn_statistics: event.miou}
            yield "miou_star", {event.bn_statistics: event.miou_star}
            yield f"{event.bn_statistics} iou", event.iou
        case Gpu():
            yield f"system/rank{event.rank}", event.figures
        case Labels():  # every set has a metric of its own: rounds and rules do not overwrite one another
            shown = ("round", "coverage", "pixels", "both_kept", "agreed")
            yield f"pseudo_labels/{event.set}", {name: getattr(event, name) for name in shown}


def _numbers(path: str, fields: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in fields.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{path}/{key}" if path else key, float(value)
