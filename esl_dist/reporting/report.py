"""``report.html`` of one run: a page that needs nothing but itself."""

from __future__ import annotations

import logging
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import torch
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

import esl_dist
from esl_dist import processes
from esl_dist.atomic import write_text
from esl_dist.config.load import dump
from esl_dist.labels import protocol
from esl_dist.models import sketch_segmenter
from esl_dist.reporting import tables
from esl_dist.reporting.curves import curves, legend, line_colours
from esl_dist.reporting.exports import Tables, exports
from esl_dist.reporting.gallery import gallery, open_target
from esl_dist.reporting.matrix import matrices
from esl_dist.reporting.pictures import DROPPED
from esl_dist.reporting.quality import compare
from esl_dist.reporting.record import RunRecord, read_run
from esl_dist.reporting.reliability import reliabilities
from esl_dist.reporting.strip import extremes, strip
from esl_dist.reporting.translations import translations
from esl_dist.runs.events import Warned

log = logging.getLogger(__name__)


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run folder and return its path. Reads the run folder, and the target images that its
    configuration names.

    Raises:
        ValueError: the folder is not a run's, or a file in it is damaged.
    """
    run = read_run(run_dir)
    page = environment().get_template("report.html.j2").render(**_content(run))
    path = run.folder.report
    write_text(path, page)
    return path


def environment(package: str = "esl_dist.reporting") -> Environment:
    """Templates of ``package`` and of this one; everything that is put into a page is escaped."""
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("esl_dist.reporting")])
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters["duration"] = _duration
    made.filters["number"] = lambda value, digits=1: "–" if value is None else f"{value:.{digits}f}"
    made.filters["grouped"] = lambda value: "–" if value is None else f"{value:,}".replace(",", " ")
    return made


def _content(run: RunRecord) -> dict[str, Any]:
    kinds = run.statistics()
    classes = protocol(run.config.data.classes)
    target, problem = open_target(run)
    measured = None
    if run.label_sets and classes.num_classes == len(next(iter(run.label_sets.values()))["classes"]):
        measured = _or_none(
            "label quality",
            lambda: compare([run.folder.labels.set(name) for name in run.label_sets], classes.num_classes, target),
        )
    rows = _or_none("pictures", lambda: gallery(run, target, classes)) or []
    shown = Tables(
        kinds,
        tables.label_table(run, measured) if run.label_sets else None,
        measured,
        tables.rounds(run, measured),
        matrices(run, kinds, classes.classes),
        _or_none("reliability diagrams", lambda: reliabilities(run)) or [],
        _or_none("translations", lambda: translations(run)) or [],
        tables.costs(run),
    )
    scored = next((m for stage in run.stages for m in stage.metrics.values()), None)
    return {
        "run": run,
        "config": run.config,
        "resolved": dump(run.config),
        "classes": list(zip(classes.classes, classes.palette, strict=True)),
        "swatches": dict(zip(classes.classes, classes.palette, strict=True)),
        "dropped": DROPPED,
        "scored": scored,
        "kinds": [tables.STATISTICS_TITLES[kind] for kind in kinds],
        "summary": tables.summary(run, kinds),
        "class_tables": [tables.class_table(run, kind) for kind in kinds],
        "labels": shown.labels,
        "rounds": shown.rounds,
        "safer": _or_none("batch-norm statistics", lambda: _safer(run)) or [],
        "measured": measured,
        "gallery": rows,
        "first_labels": f"{run.label_title(next(iter(run.label_sets)))} labels" if run.label_sets else "",
        "no_images": problem,
        "translations": shown.translations,
        "charts": curves(run),
        "colours": line_colours(run),
        "lines": legend(run),
        "strip": _or_none("predictions", lambda: strip(run, classes)) or [],
        "extremes": _or_none("worst and best images", lambda: extremes(run, classes)),
        "matrices": shown.matrices,
        "reliability": shown.reliability,
        "exports": exports(run, shown),
        "costs": shown.costs,
        "warnings": [*run.damaged(), *(event.text for event in run.events_of(Warned))],
        "facts": _facts(run),
    }


def _safer(run: RunRecord) -> list[tuple[str, str, str]]:
    """Stage, the batch-norm statistics that look safer for its labels, and why, where that was measured."""
    found = []
    for teacher in run.folder.labels.teachers():
        statistics = (teacher.evidence.find() or {}).get("statistics")
        if statistics:
            found.append((teacher.path.name.removeprefix("of-"), statistics["safer"], statistics["why"]))
    return found


def _or_none(what: str, make: Callable[[], Any]) -> Any:
    """A report without its pictures is better than none: a damaged image costs its section and is named."""
    try:
        return make()
    except (ValueError, OSError) as error:
        log.warning("the report has no %s: %s", what, error)
        return None


def _facts(run: RunRecord) -> list[tuple[str, str]]:
    """What ran, in a few words each."""
    config, data = run.config, run.config.data
    width, height = data.target.size
    times = [line.time for line in run.lines if line.time]
    worlds = sorted({stage.world for stage in run.stages if stage.world is not None})
    ranks = f"{' and '.join(map(str, worlds))} rank{'s' if worlds != [1] else ''}, " if worlds else ""
    facts = [
        (
            "Domains",
            f"{data.source.dataset} → {data.target.dataset}, {data.classes} classes, target at {width}×{height}",
        ),
        ("Network", sketch_segmenter(config.model, protocol(data.classes).num_classes).describe()),
        (
            "Optimiser",
            (
                f"lr {config.optim.lr:g}, {config.optim.batch} source + {config.optim.batch} target images per rank and"
                f" pass, accumulate {config.optim.accumulate}"
            ),
        ),
        (
            "Run",
            (
                f"{ranks}protocol “{config.protocol}”, seed {config.run.seed}, precision {config.run.precision}, labels"
                f" made with {config.extract.bn_statistics} BN statistics"
            ),
        ),
    ]
    if times:
        facts.append(
            (
                "Log",
                (
                    f"{time.strftime('%Y-%m-%d %H:%M', time.gmtime(min(times)))} to"
                    f" {time.strftime('%Y-%m-%d %H:%M', time.gmtime(max(times)))} UTC"
                ),
            )
        )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{processes.cores()} CPU cores"
    versions = (
        f"esl_dist {esl_dist.__version__}, Python {platform.python_version()}, torch {torch.__version__}, numpy"
        f" {numpy.__version__}"
    )
    facts.append(("Page written with", f"{versions}; {sys.platform} {platform.machine()}, {device}"))
    return facts


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"
