"""``selection.html``: what an extraction teaches about its thresholds, drawn from ``selection.json``."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from esl_dist.atomic import write_text
from esl_dist.colours import COLOURS, DASHES
from esl_dist.reporting.chart import Series, line_chart
from esl_dist.reporting.report import environment
from esl_dist.runs import TeacherFolder
from esl_dist.runs.content import Curve, Selection

_COVERAGE, _PRECISION, _CLASS = COLOURS[0], COLOURS[1], "var(--faint)"
_SYMBOL = {"entropy": "ν*", "probability": "μ*", "margin": "margin", "logit_margin": "margin"}
_TITLE = {
    "entropy": "Entropy (ESL): keep E ≤ max(ν*, median)",
    "probability": "Maximum probability (SSL): keep p ≥ min(μ*, median)",
    "margin": "Margin of probabilities: keep p₁ - p₂ ≥ min(margin, median)",
    "logit_margin": "Margin of logits, nats: keep ln p₁ - ln p₂ ≥ min(margin, median)",
}
_NAME = {
    "entropy": "Entropy",
    "probability": "Maximum probability",
    "margin": "Margin of probabilities",
    "logit_margin": "Margin of logits",
}
_SHOWN = {
    "entropy": (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
    "probability": (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0),
    "margin": (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0),
    "logit_margin": (0.0, 0.5, 1.0, 1.5, 2.2, 3.0, 4.0, 6.0, 8.0, 12.0),
}
"""Bounds whose values are printed, each at the nearest edge of a bin."""
_LOOKS = (
    ("entropy", COLOURS[1], ""),
    ("others, the image alone", "var(--faint)", ""),
    ("with its mirror image", COLOURS[0], DASHES[1]),
    ("and scales", COLOURS[2], DASHES[2]),
)
"""What a confidence looks at, with the colour and the dash of its line."""
_VIEWS = " of views"
"""What follows a confidence that is the mean over views."""


def write_selection_page(folder: Path) -> Path:
    """Write ``folder/selection.html`` from the ``selection.json`` that an extraction left there, and return its path.

    Raises:
        ValueError: there is no such file, or it is damaged.
    """
    there = TeacherFolder(folder)
    if not there.selection.exists():
        raise ValueError(f"{there.selection.path}: not there; extract pseudo-labels into {folder} first")
    shown = {**page(there.selection.read()), **_evidence(there.evidence.find() or {})}
    write_text(there.selection_page, environment().get_template("selection.html.j2").render(**shown))
    return there.selection_page


def page(found: Selection) -> dict[str, Any]:
    """What the template shows: label sets, curves with a few of their values, reliability, agreement."""
    names = [row["name"] for row in found["sets"][0]["classes"]]
    return {
        "found": found,
        "facts": _facts(found),
        "curves": [_curve(kind, curve, names) for kind, curve in found["curves"].items()],
        "reliability": [
            _reliability(kind, bins) for kind, bins in (found["reliability"] or {}).items() if bins is not None
        ],
        "agreement": [
            (name, 100 * count / max(found["pixels"], 1)) for name, count in (found["agreement"] or {}).items()
        ],
    }


def _evidence(found: Mapping[str, Any]) -> dict[str, Any]:
    """What ``evidence.json`` says: every confidence beside every other, and the batch-norm statistics."""
    compared = found.get("confidences")
    shown: dict[str, Any] = {"compared": None, "statistics": found.get("statistics")}
    if compared:
        figures = compared["figures"]
        shown["compared"] = {
            "about": compared["about"],
            "chart": Markup(line_chart([_right(entry) for entry in figures])),
            "looks": _LOOKS,
            "rows": [
                {
                    "title": entry["title"],
                    "forwards": entry["forwards"],
                    "wrong": [_times_100(entry["wrong"][entry["coverage"].index(s)]) for s in (0.5, 0.6, 0.7, 1.0)],
                    "half": _times_100(entry["wrong_half_of_every_class"]),
                }
                for entry in figures
            ],
        }
    return shown


def _right(entry: Mapping[str, Any]) -> Series:
    """Right labels over coverage, both in %, of one confidence."""
    looks = 0 if entry["confidence"] == "entropy" else min(entry["forwards"], 3)
    _, colour, dash = _LOOKS[looks]
    points = [(100 * c, 100 * (1 - w)) for c, w in zip(entry["coverage"], entry["wrong"], strict=True) if w is not None]
    return Series(entry["title"], colour, [x for x, _ in points], [y for _, y in points], dash)


def _facts(found: Selection) -> list[tuple[str, str]]:
    facts = [("images", f"{found['images']}"), ("pixels", f"{found['pixels']:,}".replace(",", " "))]
    if found["checkpoint"]:
        facts.append(("checkpoint", str(found["checkpoint"])[:16]))
    facts.append(
        (
            "ground truth",
            "yes: precision and wrong labels are measured" if found["ground_truth"] else "none: coverage only",
        )
    )
    return facts


def _curve(kind: str, curve: Curve, names: list[str]) -> dict[str, Any]:
    bounds = curve["bound"]
    lines = [Series("coverage", _COVERAGE, bounds, _percent(curve["coverage"]))]
    if curve["precision"] is not None:
        lines.append(Series("precision", _PRECISION, bounds, _percent(curve["precision"]), DASHES[1]))
    by_class = [
        Series(
            name,
            _CLASS,
            [b for b, v in zip(bounds, values, strict=True) if v is not None],
            [100 * v for v in values if v is not None],
        )
        for name, values in zip(names, zip(*curve["class_coverage"], strict=True), strict=True)
    ]
    plain = kind.removesuffix(_VIEWS)
    shown = [int(np.argmin(np.abs(np.array(bounds) - wanted))) for wanted in _SHOWN[plain]]
    rows = [
        {
            "bound": bounds[i],
            "coverage": _times_100(curve["coverage"][i]),
            "precision": None if curve["precision"] is None else _times_100(curve["precision"][i]),
        }
        for i in shown
    ]
    return {
        "title": _TITLE[plain] + (", mean over views" if kind != plain else ""),
        "symbol": _SYMBOL[plain],
        "chart": Markup(line_chart(lines, names=True)),
        "classes": Markup(line_chart(by_class)),
        "precision": curve["precision"] is not None,
        "rows": rows,
    }


def _reliability(kind: str, bins: Mapping[str, Any]) -> dict[str, Any]:
    edges = bins["edges"]
    points = [
        ((low + high) / 2, 100 * right)
        for (low, high), right in zip(pairwise(edges), bins["right"], strict=True)
        if right is not None
    ]
    chart = line_chart([Series("right", _PRECISION, [x for x, _ in points], [y for _, y in points])])
    return {
        "title": _NAME[kind.removesuffix(_VIEWS)] + (", mean over views" if kind.endswith(_VIEWS) else ""),
        "chart": Markup(chart),
    }


def _percent(values: list[float | None]) -> list[float]:
    return [float("nan") if value is None else 100 * value for value in values]


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value
