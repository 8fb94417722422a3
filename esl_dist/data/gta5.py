"""GTA5 (Richter et al., 2016): ``images/00001.png`` and ``labels/00001.png``, palette PNGs whose index is the
Cityscapes label id (34: plate).
"""

from __future__ import annotations

from esl_dist.data.layout import Layout


def layout() -> Layout:
    """Images and labels in one folder each, or in folders below them of the same name."""
    return Layout("gta5", "images", "labels", encoding="gta5")
