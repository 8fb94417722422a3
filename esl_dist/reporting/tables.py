"""The tables of a run's report: what each stage scored, per class, and what it cost."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from esl_dist.reporting.quality import Comparison
from esl_dist.reporting.record import NO_GAIN, NO_METHOD, RunRecord, StageRecord
from esl_dist.runs.content import ClassRow
from esl_dist.runs.events import Labels, Train

STATISTICS_TITLES = {"running": "running BN statistics", "target": "target BN statistics"}


@dataclass(frozen=True)
class Cell:
    """A score in percent, its gain over source-only in points, and whether it is the best of its row or column."""

    value: float | None = None
    gain: float | None = None
    best: bool = False

    @property
    def text(self) -> str:
        return "–" if self.value is None else f"{self.value:.1f}"

    @property
    def gain_text(self) -> str:
        if self.gain is None:
            return ""
        return "±0.0" if abs(self.gain) < 0.05 else f"{self.gain:+.1f}".replace("-", "−")

    @property
    def tone(self) -> str:
        """CSS class of the gain; half a point either way is noise and stays plain."""
        return "" if self.gain is None or abs(self.gain) < 0.5 else ("up" if self.gain > 0 else "down")


@dataclass(frozen=True)
class StageRow:
    """A stage's line in the summary."""

    stage: StageRecord
    cells: tuple[Cell, ...]
    best: tuple[Cell, ...]


def summary(run: RunRecord, kinds: Sequence[str]) -> list[StageRow]:
    """One row per stage, one cell per BN statistics; the best method is marked."""
    stages = [stage for stage in run.stages if stage.metrics]
    base = run.baseline()
    columns = [
        _cells(
            [_percent(s.miou(kind)) for s in stages],
            _percent(base.miou(kind)) if base else None,
            [_competes(s) for s in stages],
        )
        for kind in kinds
    ]
    rows = []
    for i, stage in enumerate(stages):
        best = tuple(Cell(_percent(stage.best.get(kind))) for kind in kinds)
        cells = tuple(_without_gain(column[i]) if stage.role in NO_GAIN else column[i] for column in columns)
        rows.append(StageRow(stage, cells, best))
    return rows


@dataclass(frozen=True)
class ClassTable:
    """IoU per class and stage under one kind of BN statistics."""

    title: str
    stages: tuple[StageRecord, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    mean: tuple[Cell, ...]


def class_table(run: RunRecord, kind: str) -> ClassTable:
    """Rows are classes in the protocol's order and their mean; gains are against source-only."""
    stages = [stage for stage in run.stages if kind in stage.metrics]
    base = next((s for s in stages if s.role == "baseline"), None)
    names = list(stages[0].metrics[kind]["iou"]) if stages else []
    competes = [_competes(s) for s in stages]

    def row(score: Callable[[StageRecord], float | None]) -> tuple[Cell, ...]:
        cells = _cells([_percent(score(s)) for s in stages], _percent(score(base)) if base else None, competes)
        return tuple(_without_gain(c) if s.role in NO_GAIN else c for c, s in zip(cells, stages, strict=True))

    rows = tuple((name, row(lambda s, name=name: s.metrics[kind]["iou"].get(name))) for name in names)  # type: ignore[misc]
    return ClassTable(STATISTICS_TITLES[kind], tuple(stages), rows, row(lambda s: s.miou(kind)))


@dataclass(frozen=True)
class Cost:
    """What a stage took: medians over its log lines."""

    stage: StageRecord
    images_per_second: float | None
    data_wait: float | None


def costs(run: RunRecord) -> list[Cost]:
    trained = run.events_of(Train)

    def median(stage: StageRecord, key: str) -> float | None:
        found = [event.figures.get(key) for event in trained if event.stage == stage.folder]
        values = [value for value in found if value is not None]
        return statistics.median(values) if values else None

    return [
        Cost(s, median(s, "images_per_second"), median(s, "data_wait")) for s in run.stages if s.seconds is not None
    ]


@dataclass(frozen=True)
class LabelCell:
    """One class in one label set; shares in percent."""

    threshold: float | None = None
    coverage: float | None = None
    wrong: float | None = None
    cleaner: bool = False


@dataclass(frozen=True)
class LabelTable:
    """The paper's Table 4: thresholds, coverage and wrong labels per class and label set."""

    sets: tuple[tuple[str, str], ...]
    """Title and a description of its confidence, per label set."""
    rows: tuple[tuple[str, tuple[LabelCell, ...]], ...]
    total: tuple[LabelCell, ...]
    cleaner: tuple[int, ...]
    """Per set, on how many classes it has the smallest share of wrong labels."""


def label_table(run: RunRecord, measured: Comparison | None) -> LabelTable:
    """Coverage is kept over predicted pixels of the whole target set, from thresholds.json; wrong labels are of the
    measured images.
    """
    sets = list(run.label_sets)
    entries = {key: run.label_sets[key]["classes"] for key in sets}
    rows = []
    for c, first in enumerate(entries[sets[0]]):
        cells = [_label_cell(entries[key][c], measured.sets[key].wrong(c) if measured else None) for key in sets]
        rows.append((str(first["name"]), _mark_cleanest(cells)))
    totals = [
        LabelCell(None, _share(entries[key]), _percent(measured.sets[key].wrong()) if measured else None)
        for key in sets
    ]
    wins = tuple(sum(cells[i].cleaner for _, cells in rows) for i in range(len(sets)))
    titles = tuple(
        (
            run.label_title(key),
            "entropy" if run.label_sets[key].get("rule", key) in ("esl", "median") else "max. probability",
        )
        for key in sets
    )
    return LabelTable(titles, tuple(rows), _mark_cleanest(totals), wins)


@dataclass(frozen=True)
class RoundRow:
    """One label set of a run with several rounds; shares in percent."""

    title: str
    coverage: float | None
    wrong: float | None
    both_kept: float | None
    """Pixels that this set and the round before both label; None in the first round."""
    agreed: float | None
    """Of those, the share with the same class in both."""


def rounds(run: RunRecord, measured: Comparison | None) -> list[RoundRow]:
    """How the labels changed from round to round; empty for runs of one round."""
    if run.config.selftrain.rounds == 1:
        return []
    logged = {event.set: event for event in run.events_of(Labels)}
    rows = []
    for name, content in run.label_sets.items():
        event = logged.get(name)
        both, same = (event.both_kept, event.agreed) if event is not None else (None, None)
        agreed = 100 * same / both if both and same is not None else None
        rows.append(
            RoundRow(
                run.label_title(name),
                _share(content["classes"]),
                _percent(measured.sets[name].wrong()) if measured else None,
                _percent(both),
                agreed,
            )
        )
    return rows


def _label_cell(entry: ClassRow, wrong: float | None) -> LabelCell:
    return LabelCell(
        entry["threshold"], 100 * entry["kept"] / entry["count"] if entry["count"] else None, _percent(wrong)
    )


def _share(entries: Sequence[ClassRow]) -> float | None:
    total = sum(entry["count"] for entry in entries)
    return 100 * sum(entry["kept"] for entry in entries) / total if total else None


def _mark_cleanest(cells: Sequence[LabelCell]) -> tuple[LabelCell, ...]:
    known = [cell.wrong for cell in cells if cell.wrong is not None]
    least = min(known) if len(known) > 1 and len(set(known)) > 1 else None
    return tuple(LabelCell(c.threshold, c.coverage, c.wrong, c.wrong is not None and c.wrong == least) for c in cells)


def _competes(stage: StageRecord) -> bool:
    """The oracle sees target labels, the initial weights are nobody's result."""
    return stage.role not in NO_METHOD


def _cells(values: Sequence[float | None], base: float | None, competes: Sequence[bool]) -> list[Cell]:
    known = [v for v, c in zip(values, competes, strict=True) if c and v is not None]
    top = max(known) if known and max(known) > min(known) else None  # where all are equal none is best
    return [
        Cell(v, None if v is None or base is None else v - base, c and v is not None and v == top)
        for v, c in zip(values, competes, strict=True)
    ]


def _without_gain(cell: Cell) -> Cell:
    return Cell(cell.value, None, cell.best)


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
