"""What a user learns from an extraction: coverage and precision over nu and mu, reliability, wrong labels, where two
rules differ.

The curves come from the first pass's histograms alone (and, with ground truth, two more like it: pixels judged, pixels
right), so that choosing nu needs neither training nor another look at a pixel. Their resolution is a histogram bin,
under 1 % of a score. The counts per label set are exact (the ESL paper's Table 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from esl_dist.config.schema import PseudoLabelConfig
from esl_dist.labels import IGNORE
from esl_dist.labels.overlap import PARTS, Overlap
from esl_dist.pseudo_labels.scores.keys import at_least, at_most, count_high, high_bins, scores
from esl_dist.pseudo_labels.scores.kinds import Kind, small_is_sure
from esl_dist.pseudo_labels.scores.scored import Scored
from esl_dist.pseudo_labels.thresholds.radix import sum_over_ranks
from esl_dist.pseudo_labels.thresholds.rules import kind_of, relabels
from esl_dist.pseudo_labels.thresholds.two_passes import Selection

Truth = Callable[[int, tuple[int, int]], np.ndarray]
"""Index of an image and (height, width) to its ground truth, uint8, 255 where there is none."""

GRIDS: dict[Kind, np.ndarray] = {
    "entropy": np.linspace(0, 0.6, 61),
    "probability": np.linspace(0.4, 1, 61),
    "margin": np.linspace(0, 1, 61),
    "logit_margin": np.linspace(0, 12, 61),
}
SPANS: dict[Kind, float] = {"entropy": 1, "probability": 1, "margin": 1, "logit_margin": 12}
"""The reliability diagram's range of scores; what lies above counts in its last interval."""
RELIABILITY_BINS = 20


@dataclass
class Evidence:
    """Counts over this rank's images, to be added over the ranks; everything is int64."""

    num_classes: int
    rules: Sequence[str]
    kinds: Sequence[Kind]
    """Confidences whose pixels are judged by score; none without ground truth."""
    judged_set: np.ndarray = field(init=False)
    """Per label set and class: kept pixels that have ground truth; ``wrong_set``: those of another class."""
    wrong_set: np.ndarray = field(init=False)
    overlap: Overlap = field(init=False)
    """Of ESL and SSL, where both are made."""
    judged: dict[Kind, np.ndarray] = field(init=False)
    right: dict[Kind, np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.judged_set, self.wrong_set = (np.zeros((len(self.rules), self.num_classes), np.int64) for _ in range(2))
        self.overlap = Overlap("esl", "ssl")
        self.judged, self.right = (
            {kind: np.zeros((self.num_classes, high_bins(kind)), np.int64) for kind in self.kinds} for _ in range(2)
        )

    def add(self, image: Scored, labels: Sequence[np.ndarray], truth: np.ndarray | None) -> None:
        """Count one image: the label map of every set, and the ground truth where there is some."""
        if "esl" in self.rules and "ssl" in self.rules:
            esl, ssl = (labels[self.rules.index(rule)] for rule in ("esl", "ssl"))
            self.overlap.add(esl, ssl, truth)
        if truth is None:
            return
        known = truth != IGNORE
        for row, label in enumerate(labels):
            judged = label[known]
            self.judged_set[row] += np.bincount(judged, minlength=256)[: self.num_classes]
            self.wrong_set[row] += np.bincount(judged[judged != truth[known]], minlength=256)[: self.num_classes]
        right = image.label == truth
        for kind in self.kinds:
            key = image.key(kind)
            count_high(self.judged[kind], image.label[known], key[known])
            count_high(self.right[kind], image.label[right], key[right])

    def sum_over_ranks(self) -> None:
        for counts in (
            self.judged_set,
            self.wrong_set,
            self.overlap.counts,
            *self.judged.values(),
            *self.right.values(),
        ):
            sum_over_ranks(counts)


def share(part: int, whole: int) -> float | None:
    """``part / whole``, None where there is nothing."""
    return part / whole if whole else None


def median_of(kind: Kind, settings: Sequence[PseudoLabelConfig]) -> PseudoLabelConfig:
    """The rule without a bound that a kind's curve is drawn by: share, rank and scope of the first set by that kind."""
    first = next((s for s in settings if kind_of(s) == kind and not relabels(s)), PseudoLabelConfig())
    return replace(first, rule="median", confidence=kind)


def curve(kind: Kind, high: np.ndarray, setting: PseudoLabelConfig, evidence: Evidence) -> dict[str, Any]:
    """Coverage (and precision, with ground truth) of ``max(nu, median)``, or ``min(mu, median)``, over values of the
    bound.
    """
    total, small = high.sum(1), small_is_sure(kind)
    median, _ = Selection([setting], len(high)).located(setting, high)
    below = np.cumsum(high, 1)
    judged = np.cumsum(evidence.judged[kind], 1) if kind in evidence.judged else None
    right = np.cumsum(evidence.right[kind], 1) if kind in evidence.right else None
    rows = np.arange(len(high))

    def inside(counts: np.ndarray, bins: np.ndarray) -> np.ndarray:
        """Pixels on the confident side of a bin, the bin included."""
        if small:
            pixels: np.ndarray = counts[rows, bins]
        else:
            pixels = counts[:, -1] - np.where(bins > 0, counts[rows, np.maximum(bins - 1, 0)], 0)
        return pixels

    bounds, coverage, precision, per_class = [], [], [], []
    for wanted in GRIDS[kind]:
        fixed = (at_most(float(wanted)) if small else at_least(float(wanted))) >> 16
        bins = np.maximum(median, fixed) if small else np.minimum(np.where(median < 0, fixed, median), fixed)
        kept = inside(below, bins)
        edge = (fixed << 16) | (0xFFFF if small else 0)
        bounds.append(float(scores(np.array([edge]))[0]))
        coverage.append(share(int(kept.sum()), int(total.sum())))
        per_class.append([share(int(k), int(n)) for k, n in zip(kept, total, strict=True)])
        if judged is not None and right is not None:
            precision.append(share(int(inside(right, bins).sum()), int(inside(judged, bins).sum())))
    return {"bound": bounds, "coverage": coverage, "class_coverage": per_class, "precision": precision or None}


def reliability(kind: Kind, evidence: Evidence) -> dict[str, Any] | None:
    """Share of right labels, and mean score, of the pixels of each of 20 equal intervals of the score; None without
    ground truth. A pixel's score counts as the middle of its histogram bin (0.2 % of a probability near 1).
    """
    if kind not in evidence.judged:
        return None
    edges = np.linspace(0, SPANS[kind], RELIABILITY_BINS + 1)
    cuts = [0, *(at_least(float(edge)) >> 16 for edge in edges[1:-1]), high_bins(kind)]
    judged, right = (np.add.reduceat(counts[kind].sum(0), cuts[:-1]) for counts in (evidence.judged, evidence.right))
    shares = [share(int(r), int(n)) for r, n in zip(right, judged, strict=True)]
    fine = evidence.judged[kind].sum(0)
    middles = scores((np.arange(len(fine), dtype=np.uint32) << 16) | 0x8000).astype(np.float64)
    summed = np.add.reduceat(fine * np.minimum(middles, SPANS[kind]), cuts[:-1])
    means = [float(total / n) if n else None for total, n in zip(summed, judged, strict=True)]
    return {"edges": edges.tolist(), "pixels": judged.tolist(), "right": shares, "mean": means}


def summary(
    contents: Sequence[Mapping[str, Any]],
    settings: Sequence[PseudoLabelConfig],
    high: Mapping[Kind, np.ndarray],
    evidence: Evidence,
    truth: bool,
) -> dict[str, Any]:
    """The content of ``selection.json``, from the sets' ``thresholds.json`` and the counts of all ranks."""
    sets = []
    for row, content in enumerate(contents):
        judged, wrong = evidence.judged_set[row], evidence.wrong_set[row]
        classes = [
            {**entry, "wrong": share(int(wrong[c]), int(judged[c]))} for c, entry in enumerate(content["classes"])
        ]
        keys = (
            "rule",
            "confidence",
            "nu",
            "mu",
            "margin",
            "portion",
            "rank",
            "scope",
            "share",
            "views",
            "window",
            "kept",
            "coverage",
        )
        sets.append(
            {
                **{key: content[key] for key in keys if key in content},
                "wrong": share(int(wrong.sum()), int(judged.sum())),
                "classes": classes,
            }
        )
    both, first, second, none = (evidence.overlap.pixels(part) for part in PARTS)
    by_kind = {kind: median_of(kind, settings) for kind in high}
    return {
        "images": contents[0]["images"],
        "pixels": contents[0]["pixels"],
        "checkpoint": contents[0].get("checkpoint"),
        "ground_truth": truth,
        "sets": sets,
        "agreement": {"both": both, "esl only": first, "ssl only": second, "neither": none}
        if evidence.overlap.counts.any()
        else None,
        "curves": {kind: curve(kind, counts, by_kind[kind], evidence) for kind, counts in high.items()},
        "reliability": {kind: reliability(kind, evidence) for kind in high} if truth else None,
    }


def merged(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One ``selection.json`` of rules that looked through different views; the curves of the first views have the plain
    names.
    """
    whole = {**found[0], "sets": [entry for part in found for entry in part["sets"]]}
    for part in found[1:]:
        for name in ("curves", "reliability"):
            more = {f"{kind} of views": values for kind, values in (part[name] or {}).items()}
            whole[name] = {**(whole[name] or {}), **more} or None
    return whole


def table(found: Mapping[str, Any]) -> str:
    """The sets beside one another as text: pixels, median, threshold, kept and (with ground truth) wrong labels per
    class.
    """
    lines = []
    for entry in found["sets"]:
        wrong = "" if entry["wrong"] is None else f", {100 * entry['wrong']:.2f} % of them wrong"
        lines.append(f"{entry['rule']}: {100 * entry['coverage']:.2f} % of {found['pixels']} pixels kept{wrong}")
        lines.append(
            f"  {'class':<16}{'pixels':>14}{'median':>12}{'threshold':>12}{'kept %':>9}"
            + ("" if entry["wrong"] is None else f"{'wrong %':>9}")
        )
        for row in entry["classes"]:
            values = [row["median"], row["threshold"]]
            numbers = "".join("           –" if value is None else f"{value:12.6f}" for value in values)
            last = (
                "" if entry["wrong"] is None else "        –" if row["wrong"] is None else f"{100 * row['wrong']:9.2f}"
            )
            lines.append(f"  {row['name']:<16}{row['count']:>14}{numbers}{100 * row['coverage']:9.2f}{last}")
    if found["agreement"]:
        parts = ", ".join(f"{name} {100 * count / found['pixels']:.2f} %" for name, count in found["agreement"].items())
        lines.append(f"esl and ssl: {parts}")
    return "\n".join(lines)
