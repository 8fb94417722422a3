"""Cityscapes (Cordts et al., 2016): ``leftImg8bit/<split>/<city>/<id>_leftImg8bit.png`` and
``gtFine/…/<id>_gtFine_labelIds.png``.
"""

from __future__ import annotations

from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data.layout import Layout

_KINDS = {
    "": ("labelIds", "cityscapes"),
    "labelIds": ("labelIds", "cityscapes"),
    "labelTrainIds": ("labelTrainIds", "cityscapes_train_ids"),
}


ORIGIN = "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip of www.cityscapes-dataset.com"


def layout(root: Path, split: str, domain: DomainConfig) -> Layout:
    """Names are ``<city>/<id>``. ``domain.labels``: ``labelIds`` (default) or ``labelTrainIds``, which the owner's
    scripts write.

    Raises:
        ValueError: no split, or another kind of labels.
    """
    if not split:
        raise ValueError("cityscapes: split is empty; set it to train, val or test")
    if domain.labels not in _KINDS:
        raise ValueError(
            f"cityscapes: labels={domain.labels} is unknown; leave it empty for labelIds, or set labelTrainIds"
        )
    kind, encoding = _KINDS[domain.labels]
    return Layout(
        "cityscapes",
        f"leftImg8bit/{split}",
        f"gtFine/{split}",
        "*_leftImg8bit",
        f"*_gtFine_{kind}",
        encoding,
        origin=ORIGIN,
    )
