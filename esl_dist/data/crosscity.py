"""NTHU CrossCity (Chen et al., 2017): ``<City>/Images/{Train,Test}/<id>`` and ``<City>/Labels/Test/<id>_eval.png``,
Cityscapes label ids.

Taken from how public loaders read them, not checked on genuine files: ids outside Cityscapes' stop the reading. Train
images have no labels.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from esl_dist.config.schema import DomainConfig
from esl_dist.data.layout import Layout

ORIGIN = "the archive of yihsinchen.github.io/segmentation_adaptation"


def layout(root: Path, split: str, domain: DomainConfig) -> Layout:
    """``domain.labels``: the city's folder below the root (Rome, Rio, Tokyo, Taipei); empty where the root is the
    city's own folder.

    Raises:
        ValueError: a split other than train and test, or a city that leaves the root.
    """
    known = {"train": "Train", "test": "Test", "val": "Test"}
    if split.lower() not in known:
        raise ValueError(f"crosscity: split {split!r} is unknown; set it to train or test")
    where = PurePosixPath(domain.labels)
    if where.is_absolute() or ".." in where.parts:
        raise ValueError(f"crosscity: labels={domain.labels} is no city folder; set it to Rome, Rio, Tokyo or Taipei")
    part = known[split.lower()]
    labels = str(where / "Labels" / part) if part == "Test" else ""
    return Layout(
        "crosscity", str(where / "Images" / part), labels, label_name="*_eval", encoding="crosscity", origin=ORIGIN
    )
