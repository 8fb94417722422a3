"""A study's folder before its first trial: every trial with its complete, checked configuration, and what the trials
share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from esl_dist.atomic import write_text
from esl_dist.config import load
from esl_dist.config.load import ConfigError
from esl_dist.config.schema import Config
from esl_dist.config.study import CONTINUOUS, StudyConfig, discrete, dump_study, load_study, options_of, public_study
from esl_dist.methods.unread import never_read
from esl_dist.runs import StudyFolder, TrialFolder
from esl_dist.runs.content import TakenFrom
from esl_dist.studies import shared
from esl_dist.studies.curve import scored_stage
from esl_dist.studies.record import TrialRecord, short_names, text, trials
from esl_dist.studies.shared import Chain
from esl_dist.studies.trial import decided

# These change how fast a study goes, not what it is.
FREE = ("concurrent", "address")


@dataclasses.dataclass
class Prepared:
    """A study whose folder is ready."""

    study: StudyConfig
    dir: Path
    base: Config
    chains: dict[str, Chain]
    """Of every trial that can run, by id."""

    def records(self) -> list[TrialRecord]:
        return [record for _, record in trials(self.dir)]

    def add(self, number: int, point: Mapping[str, Any], seed: int, record: TrialRecord | None = None) -> TrialRecord:
        """Write a trial's folder. One whose configuration is impossible is ``failed`` from the start, and says why."""
        run = StudyFolder(self.dir).trial(f"{number:03d}").run.path
        record = record or TrialRecord(f"{number:03d}", number, dict(point), seed, str(run.relative_to(self.dir)))
        folder = StudyFolder(self.dir).trial(record.id)
        try:
            config, self.chains[record.id] = trial_config(self.study, point, seed, folder, self.base.run.seed)
        except ValueError as error:
            record.end("failed", reason=str(error))
        else:
            write_text(folder.config, load.dump(config))
            folder.part.write(TakenFrom(self.chains[record.id].part))
            if record.status == "running" and (by := decided(folder)):  # killed on its way out
                record.end("stopped", stopped_by=by)
            elif record.status in ("running", "failed"):  # of a start that was killed, or worth another try
                record.end("queued", reason=None, log_tail=[])
        record.save(folder)
        return record


def prepare(study: StudyConfig) -> Prepared:
    """Write the folder of a new study, or take up that of one that was started before.

    Raises:
        ConfigError: nothing of the study can run, or the folder is another study's.
    """
    base = load.load_config(study.base or None, list(study.options))
    prepared = Prepared(study, study.folder, base, {})
    _check_same(study)
    known = prepared.records()
    for record in known:
        prepared.add(record.number, record.params, record.seed, record)
    if not known and study.search != "optuna":
        points = list(discrete(study.space)) if study.search == "grid" else _draw(study, base.run.seed)
        for number, (seed, point) in enumerate((seed, point) for seed in study.seeds for point in points):
            prepared.add(number, point, seed)
    records = prepared.records()
    if study.search == "optuna":
        _check_suggestions(prepared)
    elif not prepared.chains:
        raise ConfigError(f"no trial of this study can run: {records[0].reason}")
    for key, axis in study.space.items():
        if "cases" not in axis and (why := never_read(_points(study), key)):
            raise ConfigError(f"space.{key}: does nothing in any trial ({why}), so that all would be alike")
    unused = set(study.shared) - {entry for chain in _all_chains(prepared) for entry in chain.entries}
    if unused:
        raise ConfigError(
            f"shared: no trial has the stage {', '.join(sorted(unused))}; run.stages is {list(base.run.stages)}"
        )
    return prepared


def trial_config(
    study: StudyConfig, point: Mapping[str, Any], seed: int, folder: TrialFolder, base_seed: int
) -> tuple[Config, Chain]:
    """The complete configuration of a trial, and what it shares with others.

    Raises:
        ValueError: it cannot be run.
    """
    own = [
        f"run.seed={seed}",
        f"run.name={study.name}-{_label(study.space, point)}-seed{seed}",
        f"run.dir={folder.run.path}",
    ]
    config = load.load_config(study.base or None, [*study.options, *_words(study, point), *own])
    if not study.gpus and not config.run.threads:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, threads=1))  # a rank has one core
    scored_stage(study, config)
    chain = shared.chain_of(study, config, base_seed)
    extract = (
        dataclasses.replace(config.extract, from_spool=str(shared.spool_of(study.folder, chain)), spool_dir="")
        if chain.spool
        else config.extract
    )
    return (
        dataclasses.replace(config, run=dataclasses.replace(config.run, adopted=chain.entries), extract=extract),
        chain,
    )


def parts(prepared: Prepared) -> list[shared.Part]:
    """What must be made before the trials that are left."""
    return shared.parts_of(_all_chains(prepared))


def _all_chains(prepared: Prepared) -> list[Chain]:
    """Of all trials; for a sampler, whose points come one by one, of every combination of the finite axes."""
    if prepared.study.search != "optuna":
        return list(prepared.chains.values())
    return list({(chain.part, chain.spool): chain for chain in _variants(prepared)}.values())


def _points(study: StudyConfig) -> Iterator[Config]:
    """Configurations of the finite axes' combinations, at the low ends of the ranges; impossible ones left out."""
    low = {key: values[0] for key, axis in study.space.items() for kind, values in axis.items() if kind in CONTINUOUS}
    for point in discrete(study.space):
        with contextlib.suppress(ValueError):
            yield load.load_config(study.base or None, [*study.options, *_words(study, {**point, **low})])


def _words(study: StudyConfig, point: Mapping[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in options_of(study.space, point).items()]


def _variants(prepared: Prepared) -> list[Chain]:
    """Chains at both ends of the ranges, low and high in turn, for every combination of the finite axes."""
    study = prepared.study
    ends = {key: values for key, axis in study.space.items() for kind, values in axis.items() if kind in CONTINUOUS}
    found, check = [], StudyFolder(prepared.dir).trial("check")
    for point in discrete(study.space):
        for end in (0, 1):
            whole = {**point, **{key: values[end] for key, values in ends.items()}}
            found.append(trial_config(study, whole, study.seeds[0], check, prepared.base.run.seed)[1])
    return found


def _check_suggestions(prepared: Prepared) -> None:
    """Points that a sampler may ask for must be possible, and what is shared must be known before the first."""
    try:
        variants = _variants(prepared)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    for low, high in zip(variants[::2], variants[1::2], strict=True):
        if (low.part, low.spool) != (high.part, high.spool):
            raise ConfigError(
                f"shared: {', '.join(prepared.study.shared)} depend on an option that is drawn from a range, so no two"
                " trials share them; share fewer stages"
            )


def _draw(study: StudyConfig, seed: int) -> list[dict[str, Any]]:
    """``trials`` points, the same ones for the same seed of the base configuration."""
    dice = random.Random(seed)

    def draw(kind: str, values: Any) -> Any:
        if kind == "uniform":
            return dice.uniform(*values)
        if kind == "loguniform":
            return values[0] * (values[1] / values[0]) ** dice.random()
        return dice.choice(list(values))

    return [
        {key: draw(kind, values) for key, axis in study.space.items() for kind, values in axis.items()}
        for _ in range(study.trials)
    ]


def _check_same(study: StudyConfig) -> None:
    """A folder holds one study: whoever changes it chooses another name."""
    path = StudyFolder(study.folder).config
    if path.is_file():
        before, now = (dataclasses.asdict(public_study(made)) for made in (load_study(str(path)), study))
        changed = [key for key in now if key not in FREE and before[key] != now[key]]
        if changed:
            key = changed[0]
            raise ConfigError(
                f"{study.folder}: was made with {key}={before[key]}, now it is {now[key]}; choose another study.name,"
                " or delete that folder"
            )
    write_text(path, dump_study(study))


def _label(space: Mapping[str, Any], point: Mapping[str, Any]) -> str:
    """``nu=0.1-rounds=2``, or the name of a case: short enough for the name of a run."""
    words, names = [], short_names(point)
    for key, value in point.items():
        shown = text(value).replace(" ", "")
        words.append(shown if "cases" in space[key] else f"{names[key]}={shown}")
    return "-".join(words)[:80]
