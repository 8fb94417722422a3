"""``study.html``: one page that needs nothing but itself, in the look of a run's report."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from esl_dist.colours import COLOURS
from esl_dist.reporting.exports import data_uri
from esl_dist.reporting.report import environment
from esl_dist.reporting.study_page import spread_text
from esl_dist.runs import RunFolder, StudyFolder
from esl_dist.studies.outcome import LabelFigures
from esl_dist.studies.plots import Line, Mark, Thread, axis, parallel_coordinates, spread_chart
from esl_dist.studies.reading import Setting, StudyRecord, key
from esl_dist.studies.record import TrialRecord, short_names, text

BEST_SHOWN = 12
LABEL_OPTIONS = {"pseudo_labels.nu": "ν*", "pseudo_labels.mu": "μ*", "pseudo_labels.portion": "portion"}
"""Options that thresholds depend on directly, and what papers call them."""

Figures = Mapping[str, LabelFigures]


@dataclass(frozen=True)
class Chart:
    """A drawing over one option; the legend is empty where all other options are the same, or too many to
    tell apart.
    """

    title: str
    drawing: Markup
    legend: Sequence[tuple[str, str]]
    """Colour and the other options' values."""


def page(study: StudyRecord, figures: Figures, table: str) -> str:
    """The page as text, with ``study.csv``'s content to be saved from it."""
    settings = study.settings()
    content = {
        "study": study,
        "facts": _facts(study),
        "settings": [_row(setting, figures) for setting in settings[:BEST_SHOWN]],
        "settings_left": max(0, len(settings) - BEST_SHOWN),
        "labelled": bool(figures),
        "measured": any(found.wrong is not None for found in figures.values()),
        "charts": [chart for option in study.options if (chart := _score_chart(study, option))],
        "parallel": _parallel(study),
        "label_charts": _label_charts(study, figures),
        "trials": _trials(study, figures),
        "table": data_uri("text/csv", table),
        "failed": [trial for trial in study.trials if trial.status == "failed"],
        "resolved": StudyFolder(study.path).config.read_text(encoding="utf-8"),
    }
    return (
        environment("esl_dist.studies")
        .get_template("sweep.html.j2")
        .render(**content, text=text, spread_text=spread_text)
    )


def _facts(study: StudyRecord) -> list[tuple[str, str]]:
    config, counts = study.config, Counter(trial.status for trial in study.trials)
    spans = [
        (trial.started, trial.ended) for trial in study.trials if trial.started is not None and trial.ended is not None
    ]
    seeds = f"{len(config.seeds)} seed{'s' if len(config.seeds) > 1 else ''} ({', '.join(map(str, config.seeds))})"
    place = (
        f"{config.gpus} GPU{'s' if config.gpus > 1 else ''}"
        if config.gpus
        else f"{config.ranks} CPU rank{'s' if config.ranks > 1 else ''}"
    )
    facts = [
        ("Base", " ".join([config.base or "the embedded pair", *config.options])),
        *(("Options", f"{option}: {_range(axis)}") for option, axis in config.space.items()),
        (
            "Score",
            (
                f"{study.title} of {config.stage or 'the last stage'}, the"
                f" {'higher' if config.mode == 'max' else 'lower'} the better"
            ),
        ),
        ("How", f"search {config.search}, scheduler {config.scheduler}, {seeds}, a trial on {place}"),
        ("Trials", f"{len(study.trials)}: {', '.join(f'{count} {status}' for status, count in counts.items())}"),
    ]
    if config.shared:
        facts.append(("Shared", f"{', '.join(config.shared)}: made once for all trials that need the same"))
    if spans:
        wall = max(end for _, end in spans) - min(start for start, _ in spans)
        facts.append(
            (
                "Time",
                (
                    f"{_minutes(wall)} from the first trial's start to the last one's end,"
                    f" {_minutes(sum(trial.seconds for trial in study.trials))} of trials"
                ),
            )
        )
    return facts


def _range(space: Mapping[str, Any]) -> str:
    """``grid: [0, 0.1]`` → ``0, 0.1``; ``loguniform: [1e-4, 1e-2]`` stays named."""
    kind, values = next(iter(space.items()))
    listed = ", ".join(text(value) for value in values)
    return listed if kind in ("grid", "cases") else f"{kind} {listed}"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min"


@dataclass(frozen=True)
class _Row:
    setting: Setting
    coverage: float | None
    wrong: float | None
    seconds: float | None


def _row(setting: Setting, figures: Figures) -> _Row:
    found = [figures[trial.id] for trial in setting.trials if trial.id in figures]
    wrong = [f.wrong for f in found if f.wrong is not None]
    seconds = [trial.seconds for trial in setting.trials if trial.status == "finished"]
    return _Row(
        setting,
        100 * statistics.fmean(f.coverage for f in found) if found else None,
        100 * statistics.fmean(wrong) if wrong else None,
        statistics.fmean(seconds) if seconds else None,
    )


def _score_chart(study: StudyRecord, option: str) -> Chart | None:
    """The score over one option: a line per choice of the other options."""

    def score(trial: TrialRecord) -> float | None:
        return None if trial.score is None else 100 * trial.score

    shown = [trial for trial in study.trials if trial.status in ("finished", "reused", "stopped")]
    return _chart(shown, option, option, score)


def _label_charts(study: StudyRecord, figures: Figures) -> list[Chart]:
    """Coverage and share of wrong labels over ν* (or μ*, or CBST's portion)."""

    def coverage(trial: TrialRecord) -> float | None:
        return 100 * figures[trial.id].coverage if trial.id in figures else None

    def wrong(trial: TrialRecord) -> float | None:
        value = figures[trial.id].wrong if trial.id in figures else None
        return None if value is None else 100 * value

    made = []
    for option, symbol in LABEL_OPTIONS.items():
        if option in study.options:
            made += [
                _chart(study.trials, option, f"{what} over {symbol}", of)
                for what, of in (("pixels with a label, %", coverage), ("wrong labels, %", wrong))
            ]
    return [chart for chart in made if chart is not None]


def _chart(
    trials: Sequence[TrialRecord], option: str, title: str, figure: Callable[[TrialRecord], float | None]
) -> Chart | None:
    shown = [(trial, value) for trial in trials if (value := figure(trial)) is not None]
    if len({text(trial.params[option]) for trial, _ in shown}) < 2:
        return None
    names = short_names(trials[0].params)
    lines: dict[str, dict[tuple[str, bool], list[tuple[TrialRecord, float]]]] = {}
    for trial, value in shown:
        others = ", ".join(f"{names[name]} {text(v)}" for name, v in trial.params.items() if name != option)
        lines.setdefault(others, {}).setdefault((key(trial.params), trial.status != "stopped"), []).append(
            (trial, value)
        )
    told_apart = 1 < len(lines) <= len(COLOURS)
    colours = {others: COLOURS[i] if told_apart else COLOURS[1] for i, others in enumerate(lines)}
    drawn = [
        Line(colours[others], [_mark(option, members, ended) for (_, ended), members in settings.items()])
        for others, settings in lines.items()
    ]
    across = axis([trial.params[option] for trial, _ in shown])
    return Chart(
        title,
        Markup(spread_chart(drawn, across)),
        [(colours[others], others) for others in lines] if told_apart else [],
    )


def _mark(option: str, members: Sequence[tuple[TrialRecord, float]], ended: bool) -> Mark:
    params, values = members[0][0].params, [value for _, value in members]
    when = "" if ended else " when it was stopped"
    return Mark(
        params[option], values, f"{_pairs(params)}: {', '.join(f'{value:.2f}' for value in values)}{when}", ended
    )


def _parallel(study: StudyRecord) -> Markup | None:
    """Settings across all options, and trials that were stopped with the score that they had; None for fewer than two
    options.
    """
    threads = [
        Thread([s.params[o] for o in study.options], s.score.mean, f"{_pairs(s.params)}: {spread_text(s.score)}", True)
        for s in study.settings()
    ]
    for trial in study.trials:
        if trial.status == "stopped" and trial.score is not None:
            score = 100 * trial.score
            threads.append(
                Thread(
                    [trial.params[o] for o in study.options],
                    score,
                    f"{_pairs(trial.params)}: {score:.2f} when it was stopped",
                    False,
                )
            )
    if len(study.options) < 2 or len(threads) < 2:
        return None
    axes = [axis([thread.params[i] for thread in threads]) for i in range(len(study.options))]
    return Markup(parallel_coordinates(study.options, axes, threads, study.title, study.config.mode == "max"))


def _pairs(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={text(value)}" for name, value in params.items())


@dataclass(frozen=True)
class _TrialRow:
    """A trial with its bar: where it lies in the study's time, percent."""

    trial: TrialRecord
    score: float | None
    figures: LabelFigures | None
    left: float
    width: float
    report: str
    """Where its own page lies from the study's; empty where it has none."""


def _trials(study: StudyRecord, figures: Figures) -> list[_TrialRow]:
    ends = [time for trial in study.trials for time in (trial.started, trial.ended) if time is not None]
    first, span = (min(ends), max(max(ends) - min(ends), 1e-9)) if ends else (0.0, 1.0)
    rows = []
    for trial in study.trials:
        began, ended = trial.started, trial.ended
        left, width = (
            (100 * (began - first) / span, 100 * (ended - began) / span)
            if began is not None and ended is not None
            else (0.0, 0.0)
        )
        rows.append(
            _TrialRow(
                trial,
                None if trial.score is None else 100 * trial.score,
                figures.get(trial.id),
                left,
                max(width, 0.4) if ended is not None else 0.0,
                _report(study, trial),
            )
        )
    return rows


def _report(study: StudyRecord, trial: TrialRecord) -> str:
    there = RunFolder(study.path / trial.run).report
    return quote(there.relative_to(study.path).as_posix()) if there.is_file() else ""
