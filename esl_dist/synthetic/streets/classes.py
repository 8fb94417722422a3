"""The 18 Cityscapes classes that the scenes contain (all of the 19 but train), as Cityscapes label ids."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, LIGHT, SIGN = 7, 8, 11, 12, 13, 17, 19, 20
VEGETATION, TERRAIN, SKY, PERSON, RIDER, CAR, TRUCK, BUS, MOTORCYCLE, BICYCLE = 21, 22, 23, 24, 25, 26, 27, 28, 32, 33

CLASSES: dict[int, tuple[str, tuple[int, int, int]]] = {
    ROAD: ("road", (128, 64, 128)),
    SIDEWALK: ("sidewalk", (244, 35, 232)),
    BUILDING: ("building", (70, 70, 70)),
    WALL: ("wall", (102, 102, 156)),
    FENCE: ("fence", (190, 153, 153)),
    POLE: ("pole", (153, 153, 153)),
    LIGHT: ("traffic light", (250, 170, 30)),
    SIGN: ("traffic sign", (220, 220, 0)),
    VEGETATION: ("vegetation", (107, 142, 35)),
    TERRAIN: ("terrain", (152, 251, 152)),
    SKY: ("sky", (70, 130, 180)),
    PERSON: ("person", (220, 20, 60)),
    RIDER: ("rider", (255, 0, 0)),
    CAR: ("car", (0, 0, 142)),
    TRUCK: ("truck", (0, 0, 70)),
    BUS: ("bus", (0, 60, 100)),
    MOTORCYCLE: ("motorcycle", (0, 0, 230)),
    BICYCLE: ("bicycle", (119, 11, 32)),
}
"""Label id → name and colour of the Cityscapes convention."""


def palette() -> NDArray[np.uint8]:
    """``[256, 3]`` RGB by label id; ids that do not occur are black."""
    table = np.zeros((256, 3), np.uint8)
    for identifier, (_, colour) in CLASSES.items():
        table[identifier] = colour
    return table
