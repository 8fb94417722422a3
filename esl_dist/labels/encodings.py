"""Label encodings: from the id that a data set stores in a file to the class index that a network learns.

Every data set names its ids, every protocol says which of its classes a name belongs to; ``id_map`` joins the two, so
that no map from number to number is written down twice.

Sources: the label tables of Cityscapes, SYNTHIA-RAND-CITYSCAPES, CamVid (SegNet's 11 classes) and Mapillary Vistas 1.2
    and 2.0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from esl_dist.labels import vistas
from esl_dist.labels.protocols import IGNORE, TRAIN_CLASSES, Protocol, protocol

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

_NAMED_IDS: dict[str, dict[int, str]] = {
    "gta5": _CITYSCAPES,
    "cityscapes": _CITYSCAPES,
    "cityscapes_train_ids": dict(enumerate(TRAIN_CLASSES)),
    "crosscity": _CITYSCAPES,
    "synthia": _SYNTHIA,
    "camvid": _CAMVID,
}

LEGAL_IDS: dict[str, frozenset[int]] = {
    "gta5": frozenset((*range(35), IGNORE)),  # 34 = licence plate
    "cityscapes": frozenset((*range(34), IGNORE)),  # -1 (licence plate) is stored as 255
    "cityscapes_train_ids": frozenset((*range(19), IGNORE)),
    "crosscity": frozenset((*range(34), IGNORE)),
    "synthia": frozenset(range(23)),
    "camvid": frozenset(range(12)),
    "mapillary": frozenset(range(len(vistas.NAMES_V1))),
    "mapillary_v2": frozenset(range(len(vistas.NAMES_V2))),
}
"""The ids that a label file of each encoding may hold, as stored in 8 bits; any other says that the file is something
else.
"""


def id_map(dataset: str, protocol_name: str, config_names: Sequence[str] | None = None) -> NDArray[np.uint8]:
    """Table from stored id to train id.

    Args:
        dataset: a key of ``LEGAL_IDS``.
        protocol_name: a key of ``PROTOCOLS``.
        config_names: Mapillary Vistas only: the label names of the set's ``config.json`` in order, readable (``Lane
            Marking - General``) or
            dotted (``marking--general``); None takes version 1.2's 66 (``mapillary``) or 2.0's 124 (``mapillary_v2``).

    Returns:
        uint8 ``[256]``, 255 = ignore; ids that the data set does not have are 255 too (``LEGAL_IDS`` tells them apart).

    Raises:
        ValueError: unknown data set, protocol or label name, or a data set that does not tell the protocol's classes
            apart.
    """
    wanted = protocol(protocol_name)
    table = np.full(256, IGNORE, np.uint8)
    if dataset in ("mapillary", "mapillary_v2"):
        names = config_names or (vistas.NAMES_V2 if dataset == "mapillary_v2" else vistas.NAMES_V1)
        for index, name in enumerate(names):
            table[index] = _vistas_index(wanted, vistas.readable(name))
        return table
    if dataset not in _NAMED_IDS:
        raise ValueError(f"unknown label encoding {dataset!r}; one of {', '.join(LEGAL_IDS)}")
    if dataset == "camvid" and not (wanted.merges or wanted.name == "10"):
        raise ValueError(
            f"data.protocol: CamVid's 11 classes do not tell {wanted.name}'s apart; set data.protocol=10 (or 7)"
        )
    for stored, name in _NAMED_IDS[dataset].items():
        table[stored] = wanted.index_of(name)
    return table


def _vistas_index(wanted: Protocol, name: str) -> int:
    if not wanted.merges:
        return wanted.index_of(vistas.TRAIN_CLASS.get(name, ""))
    group = vistas.GROUP.get(name)
    if name == "Terrain":
        return wanted.index_of("terrain")
    return wanted.classes.index(group) if group else IGNORE
