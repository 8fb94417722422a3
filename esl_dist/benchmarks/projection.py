"""What a measured step would be on N GPUs: arithmetic on the step, the bytes of its gradients and a stated link, not a
measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

SAMPLES = 120_000
"""Source images of each of the two trainings of the published recipe: steps of one image."""
TARGET_IMAGES = 2_975
"""Cityscapes' training images, which pseudo-labels are made of."""


def project(results: dict[str, Any], ranks: Sequence[int], link_gb_s: float) -> list[dict[str, float]]:
    """One entry per number of GPUs, from the fastest measured step of this package.

    ``2 (N - 1) / N`` of each gradient passes every link once a step. ``hidden`` bounds the step from below: all of it
    runs beside the backward that carries it (the last of the step); ``exposed`` from above: none does. Hours are of the
    recipe, 120,000 source images of training, a forward over the target set and 120,000 again: the same samples
    whatever N, so N times fewer steps.
    """
    entry = min((e for e in results["steps"] if "phases_ms" in e), key=lambda e: float(e["ms"]))
    phases, passes = entry["phases_ms"], 1 if results["stage"] == "source" else 2
    forward_s = phases["F forward"] / 1e3 / (passes * results["batch"])
    found = []
    for n in ranks:
        reduce_ms = 2 * (n - 1) / n * sum(results["gradient_mib"].values()) * (1 << 20) / (link_gb_s * 1e6)
        hidden = entry["ms"] + max(0.0, reduce_ms - phases["F backward"] / passes)
        exposed = entry["ms"] + reduce_ms
        steps = SAMPLES / (n * results["batch"])
        hours = [(2 * steps * ms / 1e3 + TARGET_IMAGES * forward_s / n) / 3600 for ms in (hidden, exposed)]
        images = passes * results["batch"] * n
        found.append(
            {
                "gpus": n,
                "all_reduce_ms": reduce_ms,
                "images_per_s": 1e3 * images / hidden,
                "images_per_s_exposed": 1e3 * images / exposed,
                "hours": hours[0],
                "hours_exposed": hours[1],
            }
        )
    return found


def projection_table(projection: Sequence[dict[str, float]], link_gb_s: float) -> str:
    """The figures of :func:`project` as text, named for what they are."""
    lines = [
        f"PROJECTION, computed and not measured, from the fastest step above and links of {link_gb_s:g} GB/s"
        " (all-reduce all overlapped ... not at all):"
    ]
    for entry in projection:
        lines.append(
            f"{entry['gpus']:>5} GPU(s): all-reduce {entry['all_reduce_ms']:.1f} ms, {entry['images_per_s']:.2f} ..."
            f" {entry['images_per_s_exposed']:.2f} images/s, 120k + extraction + 120k images in {entry['hours']:.2f}"
            f" ... {entry['hours_exposed']:.2f} h"
        )
    return "\n".join(lines)
