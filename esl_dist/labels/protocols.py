"""Class protocols: which classes a network tells apart, their names, order and colours.

Sources: Cityscapes' label table for the 19 evaluated classes, their colours and their categories; the ESL paper for the
    seven groups.
"""

from __future__ import annotations

from dataclasses import dataclass

IGNORE = 255
"""The train id of a pixel that nothing is learned from or scored on."""

TRAIN_CLASSES: dict[str, tuple[int, int, int]] = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}
"""Cityscapes' 19 evaluated classes in the order of their train ids, with their colours."""

# The seven groups by the official category of each evaluated class, but for terrain, which ESL's Mapillary experiments
# count as flat.
_GROUPS: dict[str, tuple[tuple[int, int, int], tuple[str, ...]]] = {
    "flat": ((128, 64, 128), ("road", "sidewalk", "terrain")),
    "construction": ((70, 70, 70), ("building", "wall", "fence")),
    "object": ((153, 153, 153), ("pole", "traffic light", "traffic sign")),
    "nature": ((107, 142, 35), ("vegetation",)),
    "sky": ((70, 130, 180), ("sky",)),
    "human": ((220, 20, 60), ("person", "rider")),
    "vehicle": ((0, 0, 142), ("car", "truck", "bus", "train", "motorcycle", "bicycle")),
}

# What CamVid's 11 classes and Cityscapes' 19 both tell apart.
_STREET: dict[str, tuple[str, ...]] = {
    "road": ("road",),
    "sidewalk": ("sidewalk",),
    "building": ("building",),
    "fence or wall": ("fence", "wall"),
    "pole": ("pole",),
    "sign or light": ("traffic sign", "traffic light"),
    "vegetation": ("vegetation",),
    "sky": ("sky",),
    "person": ("person",),
    "car": ("car",),
}

_NOT_IN_SYNTHIA = ("terrain", "truck", "train")
_NOT_IN_13 = (*_NOT_IN_SYNTHIA, "wall", "fence", "pole")


@dataclass(frozen=True)
class Protocol:
    """The classes of a network, in the order of its output channels."""

    name: str
    """As ``data.protocol`` names it."""
    classes: tuple[str, ...]
    """Class names; a class's position is its train id."""
    palette: tuple[tuple[int, int, int], ...]
    """One RGB colour per class, 0-255."""
    members: tuple[tuple[str, ...], ...]
    """Per class, which of Cityscapes' 19 evaluated classes it holds."""

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def merges(self) -> bool:
        """True where the classes are the seven groups, which hold whole categories and not single classes."""
        return self.name in ("7", "7-nature")

    def index_of(self, train_class: str) -> int:
        """Train id of one of Cityscapes' 19 class names under this protocol; 255 where it is left out."""
        return next((i for i, held in enumerate(self.members) if train_class in held), IGNORE)


def _subset(name: str, left_out: tuple[str, ...] = ()) -> Protocol:
    kept = tuple(c for c in TRAIN_CLASSES if c not in left_out)
    return Protocol(name, kept, tuple(TRAIN_CLASSES[c] for c in kept), tuple((c,) for c in kept))


def _groups(name: str, terrain: str) -> Protocol:
    members = []
    for group, (_, held) in _GROUPS.items():
        rest = tuple(c for c in held if c != "terrain")
        members.append((*rest, "terrain") if group == terrain else rest)
    return Protocol(name, tuple(_GROUPS), tuple(colour for colour, _ in _GROUPS.values()), tuple(members))


def _street(name: str) -> Protocol:
    return Protocol(
        name, tuple(_STREET), tuple(TRAIN_CLASSES[held[0]] for held in _STREET.values()), tuple(_STREET.values())
    )


PROTOCOLS: dict[str, Protocol] = {
    p.name: p
    for p in (
        _subset("19"),
        _subset("16", _NOT_IN_SYNTHIA),
        _subset("13", _NOT_IN_13),
        _subset("crosscity13", _NOT_IN_13),
        _groups("7", terrain="flat"),
        _groups("7-nature", terrain="nature"),
        _street("10"),
    )
}
"""Every protocol by name. ``13`` (SYNTHIA's thirteen) and ``crosscity13`` hold the same classes; they differ in what
they are compared with.
"""


def protocol(name: str) -> Protocol:
    """The protocol called ``name``.

    Raises:
        ValueError: no such protocol.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"data.protocol: unknown protocol {name!r}; one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
