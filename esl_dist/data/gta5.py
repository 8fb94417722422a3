"""GTA5 (Richter et al., 2016): ``images/00001.png`` and ``labels/00001.png``, palette PNGs whose index is the
Cityscapes label id (34: plate).
"""

from __future__ import annotations

from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data.layout import Layout

ORIGIN = (
    "01_images.zip … 10_images.zip and 01_labels.zip … 10_labels.zip of download.visinf.tu-darmstadt.de/data/from_games"
)


def layout(root: Path, split: str, domain: DomainConfig) -> Layout:
    """Images and labels in one folder each, or in folders below them of the same name; a split is a list."""
    return Layout("gta5", "images", "labels", encoding="gta5", split_list=split, origin=ORIGIN)
