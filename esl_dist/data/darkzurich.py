"""Dark Zurich (Sakaridis et al., 2019): ``rgb_anon/<split>/night/<sequence>/<frame>_rgb_anon.png`` and
``gt/val/night/…_gt_labelIds.png``.

As the owner's zips unpack side by side. Only night is read: train's day and twilight images and the folders
``<split>_ref`` (the same places by day) are references and left aside. Train and test have no labels. Taken from how
public loaders read it, not checked on genuine files.
"""

from __future__ import annotations

from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data.layout import Layout

SPLITS = ("train", "val", "test")


ORIGIN = (
    "Dark_Zurich_train_anon.zip, Dark_Zurich_val_anon.zip and Dark_Zurich_test_anon.zip"
    " of www.trace.ethz.ch/publications/2019/GCMA_UIoU"
)


def layout(root: Path, split: str, domain: DomainConfig) -> Layout:
    """Names are ``<sequence>/<frame>``.

    Raises:
        ValueError: another split.
    """
    if split not in SPLITS:
        raise ValueError(f"darkzurich: split {split!r} is unknown; set it to train, val or test")
    labels = "gt/val/night" if split == "val" else ""
    return Layout(
        "darkzurich",
        f"rgb_anon/{split}/night",
        labels,
        "*_rgb_anon",
        "*_gt_labelIds",
        encoding="cityscapes",
        origin=ORIGIN,
    )
