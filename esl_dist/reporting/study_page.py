"""A study's tables as Markdown, CSV and HTML."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from urllib.parse import quote

from esl_dist.atomic import write_text
from esl_dist.reporting.compared import compared
from esl_dist.reporting.exports import data_uri
from esl_dist.reporting.record import RunRecord
from esl_dist.reporting.report import environment
from esl_dist.reporting.spread import Difference, Spread
from esl_dist.reporting.study_table import Row, Study
from esl_dist.reporting.tables import STATISTICS_TITLES


def write_study(study: Study, out: Path) -> list[Path]:
    """Write ``out`` with the suffixes .md, .csv and .html; returns the three paths."""
    paths = [out.with_suffix(suffix) for suffix in (".md", ".csv", ".html")]
    table = to_csv(study)
    page = (
        environment()
        .get_template("study.html.j2")
        .render(
            study=study,
            curves=compared(study),
            titles=STATISTICS_TITLES,
            spread_text=spread_text,
            interval_text=interval_text,
            signed=signed,
            saved=data_uri("text/csv", table),
            name=out.with_suffix(".csv").name,
            reports={run.path: _from(out, run) for group in study.groups for run in group.runs},
        )
    )
    for path, text in zip(paths, (markdown(study), table, page), strict=True):
        write_text(path, text)
    return paths


def _from(out: Path, run: RunRecord) -> str:
    """Link from a page at ``out`` to a run's report; empty where it has none."""
    there = run.folder.report
    return quote(Path(os.path.relpath(there, out.parent)).as_posix()) if there.is_file() else ""


def markdown(study: Study) -> str:
    """The tables for a README or a paper's repository."""
    parts = [_about(study)]
    for table in study.tables:
        best = any(row.best for row in table.rows)
        star, best_star = any(row.star for row in table.rows), any(row.best_star for row in table.rows)
        head = [
            "method",
            "seeds",
            "mIoU, last",
            *(["mIoU, best"] if best else []),
            *(["mIoU*, last"] if star else []),
            *(["mIoU*, best"] if best_star else []),
            *table.classes,
        ]
        lines = [
            f"### {STATISTICS_TITLES[table.statistics]}",
            "",
            _line(head),
            _line(["---", *["---:"] * (len(head) - 1)]),
        ]
        for row in table.rows:
            shown = [(True, row.last), (best, row.best), (star, row.star), (best_star, row.best_star)]
            cells = [_name(row), str(row.last.n), *(spread_text(value) for wanted, value in shown if wanted)]
            lines.append(_line([*cells, *("–" if s is None else f"{s.mean:.1f}" for s in row.iou)]))
        if table.comparisons:
            lines += [
                "",
                _line(["paired difference of mIoU", "seeds", "mean", "95 % interval"]),
                _line(["---", "---:", "---:", "---:"]),
            ]
            lines += [
                _line([c.text, str(c.difference.n), signed(c.difference.mean), interval_text(c.difference)])
                for c in table.comparisons
            ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def to_csv(study: Study) -> str:
    """One line per seed, method and BN statistics: what a plotting script or a spreadsheet starts from."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    classes = study.tables[0].classes
    writer.writerow(
        [
            "group",
            "method",
            "bn_statistics",
            "seed",
            "miou_last",
            "miou_best",
            "miou_star_last",
            "miou_star_best",
            *classes,
        ]
    )
    for table in study.tables:
        for row in table.rows:
            for seed, stage in sorted(row.by_seed.items()):
                metrics = stage.metrics[table.statistics]
                best, best_star = stage.best.get(table.statistics), stage.best_star.get(table.statistics)
                values = [metrics["iou"].get(name) for name in classes]
                writer.writerow(
                    [
                        row.group,
                        row.method,
                        table.statistics,
                        seed,
                        *(_percent(v) for v in (metrics["miou"], best, metrics.get("miou_star"), best_star, *values)),
                    ]
                )
    return buffer.getvalue()


def spread_text(value: Spread | None) -> str:
    """``45.9 ± 0.3``."""
    if value is None:
        return "–"
    return f"{value.mean:.1f}" if value.deviation is None else f"{value.mean:.1f} ± {value.deviation:.1f}"


def interval_text(difference: Difference) -> str:
    """``+0.2 … +1.1``; one seed has no interval."""
    return (
        "–"
        if difference.low is None or difference.high is None
        else f"{signed(difference.low)} … {signed(difference.high)}"
    )


def signed(points: float) -> str:
    """``+0.31`` or ``−0.31``, with a minus as wide as the plus."""
    return f"{points:+.2f}".replace("-", "−")


def _about(study: Study) -> str:
    """Which runs, and in what the groups differ."""
    lines = [
        f"- {group.name}: {', '.join(f'seed {run.config.run.seed}' for run in group.runs)}" for group in study.groups
    ]
    lines += [f"- differs: {text}" for text in study.differences]
    return "mIoU in percent, mean ± sample standard deviation over seeds.\n\n" + "\n".join(lines)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _name(row: Row) -> str:
    return f"{row.group}: {row.method}" if row.group else row.method


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.4f}"
