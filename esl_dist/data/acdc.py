"""ACDC (Sakaridis et al., 2021): ``rgb_anon/<condition>/<split>/<sequence>/<frame>_rgb_anon.png`` and
``gt/…/<frame>_gt_labelIds.png``.

As the owner's zips unpack side by side. The folders ``<split>_ref`` beside them (the same places in clear weather) are
left aside. The test split has no labels. Taken from how public loaders read it, not checked on genuine files: ids
outside Cityscapes' stop the reading.
"""

from __future__ import annotations

from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data.layout import Layout

CONDITIONS = ("fog", "night", "rain", "snow")

SPLITS = ("train", "val", "test")


ORIGIN = "rgb_anon_trainvaltest.zip and gt_trainval.zip of acdc.vision.ee.ethz.ch"


def layout(root: Path, split: str, domain: DomainConfig) -> Layout:
    """Names are ``<condition>/<sequence>/<frame>``. ``domain.labels``: one of the conditions, which names then lack;
    empty takes all four.

    Raises:
        ValueError: another split or condition.
    """
    if split not in SPLITS:
        raise ValueError(f"acdc: split {split!r} is unknown; set it to train, val or test")
    if domain.labels not in ("", *CONDITIONS):
        raise ValueError(
            f"acdc: labels={domain.labels} is no condition; set it to {', '.join(CONDITIONS)}, or leave it empty for "
            f"all"
        )
    condition = domain.labels or "*"
    labels = f"gt/{condition}/{split}" if split != "test" else ""
    return Layout(
        "acdc",
        f"rgb_anon/{condition}/{split}",
        labels,
        "*_rgb_anon",
        "*_gt_labelIds",
        encoding="cityscapes",
        origin=ORIGIN,
    )
