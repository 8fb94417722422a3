"""CamVid in SegNet's 11-class form: ``<split>/*.png``, ``<split>annot/*.png`` (8-bit ids) and ``<split>.txt``.

Other CamVid encodings with eleven classes exist, in another order; this is SegNet's. Its ``val`` is one clip from
inside a training sequence: report results on ``test``.
"""

from __future__ import annotations

from esl_dist.data.layout import Layout


def layout(split: str) -> Layout:
    """Names are the stems.

    Raises:
        ValueError: no split.
    """
    if not split:
        raise ValueError("camvid: split is empty; set it to train, val or test")
    return Layout("camvid", split, f"{split}annot", encoding="camvid")
