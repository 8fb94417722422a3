"""Several runs as one table in the form of the ESL paper's Table 1: methods down, classes across, mean over seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from esl_dist.config.load import flat
from esl_dist.methods import Role
from esl_dist.reporting.record import NO_GAIN, NO_METHOD, RunRecord, StageRecord, read_run
from esl_dist.reporting.spread import Difference, Spread, paired, spread

# Options that do not make a run another experiment: its name, its seed, where it lives and how fast it went.
_NOT_THE_EXPERIMENT = re.compile(
    r"run\.(name|dir|seed|adopted|device|threads|log_every|timeout_s)|data\.(root|workers|bad_samples)|checkpoint\.|guard\.|tracking\.|profile\.|extract\.(spool|spool_dir|from_spool|shard)$"
)


@dataclass(frozen=True)
class Group:
    """Runs of one experiment that differ in their seed."""

    name: str
    runs: tuple[RunRecord, ...]


@dataclass(frozen=True)
class Row:
    """One stage of one group, over its seeds; scores in percent."""

    group: str
    method: str
    role: Role
    learned: bool
    """From pseudo-labels."""
    by_seed: dict[int, StageRecord]
    iou: tuple[Spread | None, ...]
    last: Spread
    best: Spread | None
    """Best checkpoint of each run by the split that is reported: optimistic, and given apart for that reason."""
    star: Spread | None
    """mIoU* (13 of the 16 classes), for 16-class networks."""
    best_star: Spread | None
    """mIoU* of the best checkpoints: best by mIoU."""


@dataclass(frozen=True)
class Comparison:
    """A paired difference between two rows, in points of mIoU."""

    text: str
    difference: Difference


@dataclass(frozen=True)
class StudyTable:
    """Everything scored with one kind of BN statistics."""

    statistics: str
    classes: tuple[str, ...]
    rows: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]

    @property
    def top(self) -> float | None:
        """The best mean mIoU of a method that saw no target labels."""
        return max((row.last.mean for row in self.rows if row.role not in NO_METHOD), default=None)


@dataclass(frozen=True)
class Study:
    """Runs collected into tables, and what a reader must know before comparing them."""

    groups: tuple[Group, ...]
    tables: tuple[StudyTable, ...]
    differences: tuple[str, ...]
    """Options in which the groups differ."""


def collect(folders: Sequence[Path]) -> Study:
    """Read runs and put them side by side.

    Raises:
        ValueError: a folder is not a run's, two runs are the same experiment with the same seed, or the runs score
            different classes.
    """
    groups = _groups([read_run(folder) for folder in folders])
    kinds = [
        kind
        for kind in ("running", "target")
        if any(kind in run.statistics() for group in groups for run in group.runs)
    ]
    if not kinds:
        raise ValueError(f"{folders[0]}: none of these runs was scored; there is nothing to put into a table")
    return Study(groups, tuple(_table(groups, kind) for kind in kinds), _group_differences(groups))


def _groups(runs: Sequence[RunRecord]) -> tuple[Group, ...]:
    found: dict[str, list[RunRecord]] = {}
    for run in runs:
        found.setdefault(repr(_experiment(run)), []).append(run)
    groups = []
    for members in found.values():
        seeds: dict[int, Path] = {}
        for run in members:
            seed = run.config.run.seed
            if seed in seeds:
                raise ValueError(
                    f"{seeds[seed]} and {run.path} are the same experiment with the same seed {seed}: leave one out, a"
                    " spread over copies says nothing"
                )
            seeds[seed] = run.path
        groups.append(Group(_group_name(members), tuple(sorted(members, key=lambda run: run.config.run.seed))))
    names = [group.name for group in groups]
    return tuple(
        Group(g.name if names.count(g.name) == 1 else f"{g.name} ({g.runs[0].path.name})", g.runs) for g in groups
    )


def _experiment(run: RunRecord) -> dict[str, Any]:
    options = {key: value for key, value in sorted(flat(run.config).items()) if not _NOT_THE_EXPERIMENT.match(key)}
    # No option, but it decides the global batch and what batch norm sees.
    return options | {"ranks": sorted({stage.world for stage in run.stages if stage.world})}


def _group_name(runs: Sequence[RunRecord]) -> str:
    """The runs' name without the seed at its end: ``advent-seed2`` → ``advent``."""
    return re.sub(r"[-_. ]?(seed|s)?[-_. ]?\d+$", "", runs[0].name) or runs[0].name


def _group_differences(groups: Sequence[Group]) -> tuple[str, ...]:
    first = _experiment(groups[0].runs[0])
    found = []
    for group in groups[1:]:
        other = _experiment(group.runs[0])
        changed = [
            f"{key}: {first.get(key)} → {other.get(key)}"
            for key in sorted(first.keys() | other.keys())
            if first.get(key) != other.get(key)
        ]
        found.append(f"{group.name} against {groups[0].name}: {'; '.join(changed)}")
    return tuple(found)


def _table(groups: Sequence[Group], kind: str) -> StudyTable:
    classes: tuple[str, ...] = ()
    rows = []
    for group in groups:
        folders = list(
            dict.fromkeys(stage.folder for run in group.runs for stage in run.stages if stage.miou(kind) is not None)
        )
        for folder in folders:
            stages = {
                run.config.run.seed: stage
                for run in group.runs
                for stage in run.stages
                if stage.folder == folder and stage.miou(kind) is not None
            }
            named = tuple(next(iter(stages.values())).metrics[kind]["iou"])
            if classes and named != classes:
                raise ValueError(
                    f"{group.runs[0].path}: scores {len(named)} classes, the runs before it {len(classes)}; give one"
                    " table per class protocol"
                )
            classes = named
            rows.append(_row(group.name if len(groups) > 1 else "", stages, kind, classes))
    return StudyTable(kind, classes, tuple(rows), tuple(_comparisons(rows, kind)))


def _row(group: str, stages: dict[int, StageRecord], kind: str, classes: Sequence[str]) -> Row:
    records = list(stages.values())
    ious = [
        spread([100 * value for r in records if (value := r.metrics[kind]["iou"][name]) is not None])
        for name in classes
    ]
    last = spread([_miou(r, kind) for r in records])
    assert last is not None
    star = spread([100 * value for r in records if (value := r.metrics[kind].get("miou_star")) is not None])
    # A best over some of the seeds would be compared with a last over all of them.
    best, best_star = (
        spread([100 * f[kind] for f in found]) if all(kind in f for f in found) else None
        for found in ([r.best for r in records], [r.best_star for r in records])
    )
    return Row(
        group,
        records[0].title,
        records[0].role,
        bool(records[0].learned),
        stages,
        tuple(ious),
        last,
        best,
        star,
        best_star,
    )


def _comparisons(rows: Sequence[Row], kind: str) -> list[Comparison]:
    """Over common seeds: methods against source-only, self-training against alignment, ESL against SSL, on translated
    images against on original ones, the same method between groups."""
    within = [(row, base) for row in rows for base in rows if base.group == row.group]
    alike = [(row, base) for row, base in within if _images(row) == _images(base)]
    pairs = [
        (row, base)
        for row, base in within
        if base.role == "baseline" and row.role not in NO_GAIN and _images(base) in ("", _images(row))
    ]
    pairs += [(row, base) for row, base in alike if row.learned and base.role == "method" and not base.learned]
    pairs += [
        (esl, ssl)
        for esl, ssl in alike
        if esl.method.startswith("ESL") and ssl.method == esl.method.replace("ESL", "SSL")
    ]
    first_group = rows[0].group if rows else ""
    across = [(row, base) for row in rows for base in rows if row.group != first_group and base.group == first_group]
    pairs += [
        (row, base)
        for row, base in (*within, *across)
        if _images(row) and base.method == row.method.replace(_images(row), "")
    ]
    pairs += [(row, base) for row, base in across if base.method == row.method]
    found = []
    for one, two in pairs:
        seeds = sorted(one.by_seed.keys() & two.by_seed.keys())
        first, second = ([_miou(row.by_seed[seed], kind) for seed in seeds] for row in (one, two))
        # The same stage of both groups, where the options that differ do not reach it, is no comparison.
        if seeds and first != second:
            other = two.method if one.group == two.group else _named(two)
            found.append(Comparison(f"{_named(one)} − {other}", paired(first, second)))
    return found


def _images(row: Row) -> str:
    """`` + IT`` or `` + IT 2`` of a method on translated images, else an empty string."""
    found = re.search(r" \+ IT( \d+)?", row.method)
    return found[0] if found else ""


def _named(row: Row) -> str:
    return f"{row.group}: {row.method}" if row.group else row.method


def _miou(stage: StageRecord, kind: str) -> float:
    value = stage.miou(kind)
    assert value is not None
    return 100 * value
