"""A study: which options of a configuration are swept, how points are chosen, what each trial may use, and how it is
scored.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from esl_dist.config.bounds import Bound, NonNegativeInt, PositiveInt, Seed, check
from esl_dist.config.check import require, require_folder_name
from esl_dist.config.entries import parse
from esl_dist.config.load import build, dump, find_file
from esl_dist.config.reading import ConfigError, read_file, read_words
from esl_dist.config.secrets import public_words

DISCRETE, CONTINUOUS = ("grid", "choice", "cases"), ("uniform", "loguniform")
PREFIX = "study."


@dataclass(frozen=True)
class StudyConfig:
    """One study. Its folder is ``runs/studies/<name>``."""

    name: str = "study"
    """Names the study's folder, its MLflow run and its trials."""
    dir: str = ""
    """The study's folder itself; empty means ``runs/studies/<name>``."""
    base: str = ""
    """Configuration of a trial before anything is swept, a file as of ``--config``; empty is the embedded pair."""
    options: tuple[str, ...] = ()
    """``section.option=value`` words on top of ``base``, the same for every trial."""
    space: dict[str, Any] = field(default_factory=dict)
    """Swept option -> ``{grid: [...]}``, ``{choice: [...]}``, ``{uniform: [low, high]}``, ``{loguniform: [low,
    high]}``, or, under any name, ``{cases: {name: {option: value}}}``.
    """
    search: Literal["grid", "random", "optuna"] = "grid"
    """grid: every combination; random: ``trials`` draws; optuna: ``trials`` suggestions of its TPE sampler."""
    trials: NonNegativeInt = 0
    """Points that random and optuna try."""
    seeds: tuple[Seed, ...] = (1,)
    """Every point is run once for each of these ``run.seed``."""
    shared: tuple[str, ...] = ()
    """Entries of ``run.stages`` that are made once and taken as they are by every trial that needs the same ones."""
    shared_seed: Literal["base", "each"] = "base"
    """Seed of the shared stages: base = the configuration's own for all, so that ``seeds`` vary what the trials train
    themselves; each = the trial's.
    """
    ranks: Annotated[int, Bound(1, 10_000)] = 2
    """Processes of a trial on the CPU; each takes one core."""
    gpus: Annotated[int, Bound(0, 10_000)] = 0
    """GPUs of a trial, one rank each; 0 trains on the CPU."""
    concurrent: NonNegativeInt = 0
    """Trials at a time; 0: as many as there is room for."""
    metric: str = "miou"
    """``miou``, or ``iou/<class>``."""
    stage: str = ""
    """Stage folder whose score is the trial's; empty: the last of ``run.stages`` but the oracle."""
    bn_statistics: Literal["", "running", "target"] = ""
    """Batch-norm statistics of that score; empty: the first of ``eval.bn_statistics``."""
    mode: Literal["max", "min"] = "max"
    """Whether more or less is better."""
    scheduler: Literal["none", "asha", "median"] = "none"
    """Stops trials that fall behind, by the scores of ``eval.every``."""
    grace: PositiveInt = 1
    """Optimiser steps, counted over the stages that a trial trains itself, before it may be stopped."""
    reduction: Annotated[int, Bound(2, 1000)] = 3
    """ASHA keeps one trial in so many at each rung."""
    address: str = ""
    """Ray cluster to use: ``auto`` or an address; empty starts Ray on this machine and ends it with the study."""

    def __post_init__(self) -> None:
        check(self)
        require_folder_name(self.name, "name")
        require(
            len(self.space) > 0,
            "space",
            "is empty: name at least one option to sweep, such as pseudo_labels.nu: {grid: [0, 0.1]}",
        )
        for key, axis in self.space.items():
            _check_axis(key, axis, self.search)
        swept = [key for axis in self.space.items() for key in _keys(*axis)]
        twice = {key for key in swept if swept.count(key) > 1}
        require(not twice, "space", f"sets {', '.join(sorted(twice))} twice")
        require(
            not {"run.seed", "run.name", "run.dir"} & set(swept),
            "space",
            "run.seed is swept by seeds, and run.name and run.dir are the study's",
        )
        if self.search == "grid":
            require(
                self.trials == 0, "trials", "a grid tries every combination; leave trials out, or set search=random"
            )
        else:
            require(self.trials >= 1, "trials", f"search={self.search} needs the number of points to try")
        require(
            len(self.seeds) > 0 and len(set(self.seeds)) == len(self.seeds),
            "seeds",
            "needs one seed or more, each once",
        )
        require(
            self.search != "optuna" or len(self.seeds) == 1,
            "seeds",
            "optuna takes one seed, because a score steers it; run the best point again with a grid over seeds",
        )
        for entry in self.shared:
            parse(entry)
        require(
            self.metric == "miou" or self.metric.startswith("iou/"),
            "metric",
            f"unknown {self.metric!r}; miou or iou/<class>",
        )
        require(
            self.scheduler == "none" or self.metric == "miou",
            "metric",
            f"scheduler={self.scheduler} sees miou alone while a trial trains; set metric=miou or scheduler=none",
        )

    @property
    def world(self) -> int:
        """Ranks of a trial."""
        return self.gpus or self.ranks

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return Path(self.dir) if self.dir else Path("runs") / "studies" / self.name


def _check_axis(key: str, axis: Any, search: str) -> None:
    known = (*DISCRETE, *CONTINUOUS)
    require(
        isinstance(axis, Mapping) and len(axis) == 1 and next(iter(axis)) in known,
        f"space.{key}",
        f"write {key}: {{KIND: values}} with KIND one of {', '.join(known)}",
    )
    kind, values = next(iter(axis.items()))
    if kind == "cases":
        good = (
            isinstance(values, Mapping)
            and len(values) > 0
            and all(isinstance(case, Mapping) for case in values.values())
        )
        require(
            good,
            f"space.{key}",
            "cases are names with the options that each sets: {one: {align.weight: 0.1}, two: {align.weight: 0}}",
        )
        return
    require(
        isinstance(values, Sequence) and not isinstance(values, str) and len(values) > 0,
        f"space.{key}",
        f"{kind} takes a list",
    )
    told = [json.dumps(value, sort_keys=True, default=str) for value in values]
    twice = next((value for value in told if told.count(value) > 1), "")
    require(not twice, f"space.{key}", f"names {twice} twice; every value once")
    if kind in CONTINUOUS:
        numbers = len(values) == 2 and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        require(numbers and values[0] < values[1], f"space.{key}", f"{kind} takes [low, high]")
        require(kind != "loguniform" or values[0] > 0, f"space.{key}", "loguniform needs a low end above 0")
        require(
            search != "grid",
            f"space.{key}",
            f"a grid cannot try every value of {kind}; list values with grid, or set search to random or optuna",
        )


def _keys(key: str, axis: Any) -> list[str]:
    """Options that an axis sets."""
    kind, values = next(iter(axis.items()))
    return list(dict.fromkeys(option for case in values.values() for option in case)) if kind == "cases" else [key]


def discrete(space: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the axes that have a finite number of values: option (or name of ``cases``) -> value (or
    name of the case).
    """
    axes = {key: list(next(iter(axis.values()))) for key, axis in space.items() if next(iter(axis)) in DISCRETE}
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def options_of(space: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a point sets, its cases spelled out."""
    found: dict[str, Any] = {}
    for key, value in point.items():
        axis = space[key]
        found |= dict(axis["cases"][value]) if "cases" in axis else {key: value}
    return found


def load_study(file: str, words: Sequence[str] = ()) -> StudyConfig:
    """Read a study; ``study.option=value`` words change the study itself, all others are added to its ``options``.

    Raises:
        ConfigError: unknown key, wrong type or impossible combination.
    """
    path = find_file(file)
    layer = read_file(path, StudyConfig)
    if "space" not in layer.values:
        raise ConfigError(f"{path}: is not a study: it has no 'space:'; see configs/sweeps/ for examples")
    own = read_words([word.removeprefix(PREFIX) for word in words if word.startswith(PREFIX)], StudyConfig)
    study = build(StudyConfig, [layer, own])
    return replace(study, options=(*study.options, *(word for word in words if not word.startswith(PREFIX))))


def dump_study(study: StudyConfig) -> str:
    """The study as YAML, without passwords; loading it gives the same one back."""
    return dump(public_study(study))


def public_study(study: StudyConfig) -> StudyConfig:
    """The study as it may be recorded and shown."""
    return replace(study, options=public_words(study.options))
