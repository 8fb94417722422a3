"""Label encodings: from the id that a data set stores in a file to the class index that a network learns.

Every data set names its ids, every set of classes says which of them a name belongs to; ``id_map`` joins the two, so
that no map from number to number is written down twice.

Sources: the label tables of Cityscapes, SYNTHIA-RAND-CITYSCAPES, CamVid (SegNet's 11 classes) and Mapillary Vistas 1.2
and 2.0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esl_dist.labels import vistas
from esl_dist.labels.classfile import Protocol
from esl_dist.labels.protocols import IGNORE, TRAIN_CLASSES, protocol


@dataclass(frozen=True)
class Encoding:
    """What the ids of a data set's label files mean."""

    names: Mapping[int, str]
    """Stored id to one of Cityscapes' 19 class names; legal ids without a name are ignored."""
    legal: frozenset[int]
    """The ids that a label file may hold, as stored in 8 bits; any other says that the file is something else."""


_CITYSCAPES: dict[int, str] = {
    7: "road",
    8: "sidewalk",
    11: "building",
    12: "wall",
    13: "fence",
    17: "pole",
    19: "traffic light",
    20: "traffic sign",
    21: "vegetation",
    22: "terrain",
    23: "sky",
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""Label ids of the evaluated classes. The others (parking, rail track, guard rail, bridge, caravan …) are left out of
the official class and category scores alike, so they are ignored under every protocol."""

_SYNTHIA: dict[int, str] = {
    1: "sky",
    2: "building",
    3: "road",
    4: "sidewalk",
    5: "fence",
    6: "vegetation",
    7: "pole",
    8: "car",
    9: "traffic sign",
    10: "person",
    11: "bicycle",
    12: "motorcycle",
    15: "traffic light",
    16: "terrain",
    17: "rider",
    18: "truck",
    19: "bus",
    20: "train",
    21: "wall",
}
"""Void (0), parking slot (13), road work (14) and lane marking (22) are ignored, as in the published protocols."""

_CAMVID: dict[int, str] = {
    0: "sky",
    1: "building",
    2: "pole",
    3: "road",
    4: "sidewalk",
    5: "vegetation",
    6: "traffic sign",
    7: "fence",
    8: "car",
    9: "person",
}
"""SegNet's encoding. Bicyclist (10: rider and bicycle in one) and void (11) are ignored."""

_VISTAS = {"mapillary": vistas.NAMES_V1, "mapillary_v2": vistas.NAMES_V2}

ENCODINGS: dict[str, Encoding] = {
    "gta5": Encoding(_CITYSCAPES, frozenset((*range(35), IGNORE))),  # 34 = licence plate
    "cityscapes": Encoding(_CITYSCAPES, frozenset((*range(34), IGNORE))),  # -1 (licence plate) is stored as 255
    "cityscapes_train_ids": Encoding(dict(enumerate(TRAIN_CLASSES)), frozenset((*range(19), IGNORE))),
    "crosscity": Encoding(_CITYSCAPES, frozenset((*range(34), IGNORE))),
    "synthia": Encoding(_SYNTHIA, frozenset(range(23))),
    "camvid": Encoding(_CAMVID, frozenset(range(12))),
    "mapillary": Encoding({}, frozenset(range(len(vistas.NAMES_V1)))),
    "mapillary_v2": Encoding({}, frozenset(range(len(vistas.NAMES_V2)))),
}
"""What label files of each data set hold; Mapillary Vistas' names depend on its own configuration (see ``id_map``)."""

LEGAL_IDS: dict[str, frozenset[int]] = {name: encoding.legal for name, encoding in ENCODINGS.items()}


def id_map(
    dataset: str | Encoding, classes: str | Protocol, config_names: Sequence[str] | None = None
) -> NDArray[np.uint8]:
    """Table from stored id to train id.

    Args:
        dataset: what the ids mean, or a key of ``ENCODINGS``.
        classes: of the network, or their name (see ``protocol``).
        config_names: Mapillary Vistas only: the label names of the set's ``config.json`` in order, readable (``Lane
            Marking - General``) or dotted (``marking--general``); None takes version 1.2's 66 (``mapillary``) or 2.0's
            124 (``mapillary_v2``).

    Returns:
        uint8 ``[256]``, 255 = ignore; ids that the data set does not have are 255 too (``legal_ids`` tells them apart).

    Raises:
        ValueError: unknown data set, classes or label name, or a data set that does not tell the classes apart.
    """
    wanted = protocol(classes) if isinstance(classes, str) else classes
    table = np.full(256, IGNORE, np.uint8)
    if isinstance(dataset, str) and dataset in _VISTAS:
        for index, name in enumerate(config_names or _VISTAS[dataset]):
            table[index] = _vistas_index(wanted, vistas.readable(name))
    else:
        for stored, name in encoding(dataset).names.items():
            table[stored] = wanted.index_of(name)
    if dataset == "camvid" and wanted.name in ("19", "16", "13", "crosscity13"):
        raise ValueError(
            f"data.classes: CamVid's 11 classes do not tell {wanted.name}'s apart; set data.classes=10 (or 7)"
        )
    if (table == IGNORE).all():
        raise ValueError(
            f"data.classes: none of {wanted.name}'s classes is one of this data set's; say which of Cityscapes' 19 "
            f"each holds (members: [road]) in the class file"
        )
    return table


def encoding(dataset: str | Encoding) -> Encoding:
    """What the ids of a data set mean.

    Raises:
        ValueError: no such data set.
    """
    if isinstance(dataset, Encoding):
        return dataset
    if dataset not in ENCODINGS:
        raise ValueError(f"unknown label encoding {dataset!r}; one of {', '.join(ENCODINGS)}")
    return ENCODINGS[dataset]


def legal_ids(dataset: str | Encoding, config_names: Sequence[str] | None = None) -> frozenset[int]:
    """The ids that label files of a data set may hold; its own configuration's where that names them."""
    return frozenset(range(len(config_names))) if config_names else encoding(dataset).legal


def _vistas_index(wanted: Protocol, name: str) -> int:
    if not wanted.merges:
        return wanted.index_of(vistas.TRAIN_CLASS.get(name, ""))
    group = vistas.GROUP.get(name)
    if name == "Terrain":
        return wanted.index_of("terrain")
    return wanted.classes.index(group) if group in wanted.classes else IGNORE
