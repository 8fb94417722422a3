"""Every published data set by name: the one line that a new one costs beside its own file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from esl_dist.config.schema import DomainConfig
from esl_dist.data import (
    acdc,
    bdd100k,
    camvid,
    cityscapes,
    crosscity,
    darkzurich,
    foggy,
    gta5,
    mapillary,
    synthia,
    urbansyn,
)
from esl_dist.data.layout import Layout

DATASETS: dict[str, Callable[[Path, str, DomainConfig], Layout]] = {
    "gta5": gta5.layout,
    "synthia": synthia.layout,
    "urbansyn": urbansyn.layout,
    "cityscapes": cityscapes.layout,
    "foggy_cityscapes": foggy.layout,
    "acdc": acdc.layout,
    "darkzurich": darkzurich.layout,
    "bdd100k": bdd100k.layout,
    "mapillary": mapillary.layout,
    "crosscity": crosscity.layout,
    "camvid": camvid.layout,
}
"""``layout(root, split, domain)`` of each: where its owner puts images and labels, and what the labels mean."""
