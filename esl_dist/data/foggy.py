"""Foggy Cityscapes (Sakaridis et al., 2018): ``leftImg8bit_foggy/<split>/<city>/<id>_leftImg8bit_foggy_beta_0.02.png``
and Cityscapes' labels.

Every photograph is there with three densities of fog, which would count it three times: one of them is read. Labels
are Cityscapes'
own, ``gtFine/…`` in the same root. Taken from how public loaders read it, not checked on genuine files.
"""

from __future__ import annotations

from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data.layout import Layout

DENSITIES = ("0.02", "0.01", "0.005")


ORIGIN = "leftImg8bit_trainvaltest_foggy.zip and gtFine_trainvaltest.zip of www.cityscapes-dataset.com"


def layout(root: Path, split: str, domain: DomainConfig) -> Layout:
    """Names are ``<city>/<id>``. ``domain.labels``: the density (attenuation per metre); empty takes 0.02.

    Raises:
        ValueError: no split, or another density.
    """
    if not split:
        raise ValueError("foggy_cityscapes: split is empty; set it to train, val or test")
    density = domain.labels or DENSITIES[0]
    if density not in DENSITIES:
        raise ValueError(f"foggy_cityscapes: labels={density} is no density of fog; set it to {', '.join(DENSITIES)}")
    name = f"*_leftImg8bit_foggy_beta_{density}"
    return Layout(
        "foggy_cityscapes",
        f"leftImg8bit_foggy/{split}",
        f"gtFine/{split}",
        name,
        "*_gtFine_labelIds",
        encoding="cityscapes",
        origin=ORIGIN,
    )
