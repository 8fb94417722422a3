"""Mapillary Vistas' label names, 1.2 (66) and 2.0 (124): a pixel's value is the position of its name in the set's
``config.json``.

Colours differ between the versions and are shared by several labels, so only names are mapped. The seven groups of
version 1.2 are those of ESL's Mapillary experiments; names that version 2.0 added join the group of what they were
split from. The 19 evaluated Cityscapes classes follow Cityscapes' class definitions (markings and lanes count as road,
kerbs and pedestrian areas as sidewalk, backs of signs as nothing).
"""

from __future__ import annotations

_DOTTED_V1: dict[str, str] = {
    "animal--bird": "Bird",
    "animal--ground-animal": "Ground Animal",
    "construction--barrier--curb": "Curb",
    "construction--barrier--fence": "Fence",
    "construction--barrier--guard-rail": "Guard Rail",
    "construction--barrier--other-barrier": "Barrier",
    "construction--barrier--wall": "Wall",
    "construction--flat--bike-lane": "Bike Lane",
    "construction--flat--crosswalk-plain": "Crosswalk - Plain",
    "construction--flat--curb-cut": "Curb Cut",
    "construction--flat--parking": "Parking",
    "construction--flat--pedestrian-area": "Pedestrian Area",
    "construction--flat--rail-track": "Rail Track",
    "construction--flat--road": "Road",
    "construction--flat--service-lane": "Service Lane",
    "construction--flat--sidewalk": "Sidewalk",
    "construction--structure--bridge": "Bridge",
    "construction--structure--building": "Building",
    "construction--structure--tunnel": "Tunnel",
    "human--person": "Person",
    "human--rider--bicyclist": "Bicyclist",
    "human--rider--motorcyclist": "Motorcyclist",
    "human--rider--other-rider": "Other Rider",
    "marking--crosswalk-zebra": "Lane Marking - Crosswalk",
    "marking--general": "Lane Marking - General",
    "nature--mountain": "Mountain",
    "nature--sand": "Sand",
    "nature--sky": "Sky",
    "nature--snow": "Snow",
    "nature--terrain": "Terrain",
    "nature--vegetation": "Vegetation",
    "nature--water": "Water",
    "object--banner": "Banner",
    "object--bench": "Bench",
    "object--bike-rack": "Bike Rack",
    "object--billboard": "Billboard",
    "object--catch-basin": "Catch Basin",
    "object--cctv-camera": "CCTV Camera",
    "object--fire-hydrant": "Fire Hydrant",
    "object--junction-box": "Junction Box",
    "object--mailbox": "Mailbox",
    "object--manhole": "Manhole",
    "object--phone-booth": "Phone Booth",
    "object--pothole": "Pothole",
    "object--street-light": "Street Light",
    "object--support--pole": "Pole",
    "object--support--traffic-sign-frame": "Traffic Sign Frame",
    "object--support--utility-pole": "Utility Pole",
    "object--traffic-light": "Traffic Light",
    "object--traffic-sign--back": "Traffic Sign (Back)",
    "object--traffic-sign--front": "Traffic Sign (Front)",
    "object--trash-can": "Trash Can",
    "object--vehicle--bicycle": "Bicycle",
    "object--vehicle--boat": "Boat",
    "object--vehicle--bus": "Bus",
    "object--vehicle--car": "Car",
    "object--vehicle--caravan": "Caravan",
    "object--vehicle--motorcycle": "Motorcycle",
    "object--vehicle--on-rails": "On Rails",
    "object--vehicle--other-vehicle": "Other Vehicle",
    "object--vehicle--trailer": "Trailer",
    "object--vehicle--truck": "Truck",
    "object--vehicle--wheeled-slow": "Wheeled Slow",
    "void--car-mount": "Car Mount",
    "void--ego-vehicle": "Ego Vehicle",
    "void--unlabeled": "Unlabeled",
}

NAMES_V1: tuple[str, ...] = tuple(_DOTTED_V1.values())
"""The 66 readable names of version 1.2 in the order of their ids."""

# fmt: off
NAMES_V2: tuple[str, ...] = (
    "Bird", "Ground Animal", "Ambiguous Barrier", "Concrete Block", "Curb", "Fence", "Guard Rail", "Barrier",
    "Road Median", "Road Side",
    "Lane Separator", "Temporary Barrier", "Wall", "Bike Lane", "Crosswalk - Plain", "Curb Cut", "Driveway",
    "Parking", "Parking Aisle",
    "Pedestrian Area", "Rail Track", "Road", "Road Shoulder", "Service Lane", "Sidewalk", "Traffic Island", "Bridge",
    "Building", "Garage", "Tunnel",
    "Person", "Person Group", "Bicyclist", "Motorcyclist", "Other Rider", "Lane Marking - Dashed Line",
    "Lane Marking - Straight Line",
    "Lane Marking - Zigzag Line", "Lane Marking - Ambiguous", "Lane Marking - Arrow (Left)",
    "Lane Marking - Arrow (Other)",
    "Lane Marking - Arrow (Right)", "Lane Marking - Arrow (Split Left or Straight)",
    "Lane Marking - Arrow (Split Right or Straight)",
    "Lane Marking - Arrow (Straight)", "Lane Marking - Crosswalk", "Lane Marking - Give Way (Row)",
    "Lane Marking - Give Way (Single)",
    "Lane Marking - Hatched (Chevron)", "Lane Marking - Hatched (Diagonal)", "Lane Marking - Other",
    "Lane Marking - Stop Line",
    "Lane Marking - Symbol (Bicycle)", "Lane Marking - Symbol (Other)", "Lane Marking - Text",
    "Lane Marking (only) - Dashed Line",
    "Lane Marking (only) - Crosswalk", "Lane Marking (only) - Other", "Lane Marking (only) - Test", "Mountain",
    "Sand", "Sky", "Snow", "Terrain",
    "Vegetation", "Water", "Banner", "Bench", "Bike Rack", "Catch Basin", "CCTV Camera", "Fire Hydrant",
    "Junction Box", "Mailbox", "Manhole",
    "Parking Meter", "Phone Booth", "Pothole", "Signage - Advertisement", "Signage - Ambiguous", "Signage - Back",
    "Signage - Information",
    "Signage - Other", "Signage - Store", "Street Light", "Pole", "Pole Group", "Traffic Sign Frame", "Utility Pole",
    "Traffic Cone",
    "Traffic Light - General (Single)", "Traffic Light - Pedestrians", "Traffic Light - General (Upright)",
    "Traffic Light - General (Horizontal)",
    "Traffic Light - Cyclists", "Traffic Light - Other", "Traffic Sign - Ambiguous", "Traffic Sign (Back)",
    "Traffic Sign - Direction (Back)",
    "Traffic Sign - Direction (Front)", "Traffic Sign (Front)", "Traffic Sign - Parking",
    "Traffic Sign - Temporary (Back)",
    "Traffic Sign - Temporary (Front)", "Trash Can", "Bicycle", "Boat", "Bus", "Car", "Caravan", "Motorcycle",
    "On Rails", "Other Vehicle", "Trailer",
    "Truck", "Vehicle Group", "Wheeled Slow", "Water Valve", "Car Mount", "Dynamic", "Ego Vehicle", "Ground",
    "Static", "Unlabeled",
)
"""The 124 readable names of version 2.0 in the order of their ids."""

_GROUPS: dict[str, tuple[str, ...]] = {
    "flat": (
        "Bike Lane", "Crosswalk - Plain", "Curb Cut", "Parking", "Pedestrian Area", "Rail Track", "Road",
        "Service Lane", "Sidewalk",
        "Lane Marking - Crosswalk", "Lane Marking - General", "Terrain", "Driveway", "Parking Aisle", "Road Shoulder",
        "Traffic Island",
        "Lane Marking - Dashed Line", "Lane Marking - Straight Line", "Lane Marking - Zigzag Line",
        "Lane Marking - Ambiguous",
        "Lane Marking - Arrow (Left)", "Lane Marking - Arrow (Other)", "Lane Marking - Arrow (Right)",
        "Lane Marking - Arrow (Split Left or Straight)", "Lane Marking - Arrow (Split Right or Straight)",
        "Lane Marking - Arrow (Straight)",
        "Lane Marking - Give Way (Row)", "Lane Marking - Give Way (Single)", "Lane Marking - Hatched (Chevron)",
        "Lane Marking - Hatched (Diagonal)",
        "Lane Marking - Other", "Lane Marking - Stop Line", "Lane Marking - Symbol (Bicycle)",
        "Lane Marking - Symbol (Other)", "Lane Marking - Text",
        "Lane Marking (only) - Dashed Line", "Lane Marking (only) - Crosswalk", "Lane Marking (only) - Other",
        "Lane Marking (only) - Test",
    ),
    "construction": (
        "Curb", "Fence", "Guard Rail", "Barrier", "Wall", "Bridge", "Building", "Tunnel", "Ambiguous Barrier",
        "Concrete Block", "Road Median",
        "Road Side", "Lane Separator", "Temporary Barrier", "Garage",
    ),
    "object": (
        "Pothole", "Street Light", "Pole", "Traffic Sign Frame", "Utility Pole", "Traffic Light",
        "Traffic Sign (Back)", "Traffic Sign (Front)",
        "Pole Group", "Traffic Light - General (Single)", "Traffic Light - Pedestrians",
        "Traffic Light - General (Upright)",
        "Traffic Light - General (Horizontal)", "Traffic Light - Cyclists", "Traffic Light - Other",
        "Traffic Sign - Ambiguous",
        "Traffic Sign - Direction (Back)", "Traffic Sign - Direction (Front)", "Traffic Sign - Parking",
        "Traffic Sign - Temporary (Back)",
        "Traffic Sign - Temporary (Front)",
    ),
    "nature": ("Vegetation",),
    "sky": ("Sky",),
    "human": (
        "Person", "Bicyclist", "Motorcyclist", "Other Rider", "Person Group",
    ),
    "vehicle": (
        "Bicycle", "Boat", "Bus", "Car", "Caravan", "Motorcycle", "On Rails", "Other Vehicle", "Trailer", "Truck",
        "Wheeled Slow", "Vehicle Group",
    ),
}
GROUP: dict[str, str] = {name: group for group, names in _GROUPS.items() for name in names}
"""Readable name to one of the seven groups, with terrain in ``flat``; a name that is missing is ignored."""

_TRAIN_CLASSES: dict[str, tuple[str, ...]] = {
    "road": (
        "Road", "Service Lane", "Bike Lane", "Crosswalk - Plain", "Lane Marking - Crosswalk",
        "Lane Marking - General", "Lane Marking - Dashed Line",
        "Lane Marking - Straight Line", "Lane Marking - Zigzag Line", "Lane Marking - Ambiguous",
        "Lane Marking - Arrow (Left)",
        "Lane Marking - Arrow (Other)", "Lane Marking - Arrow (Right)", "Lane Marking - Arrow (Split Left or Straight)",
        "Lane Marking - Arrow (Split Right or Straight)", "Lane Marking - Arrow (Straight)", "Lane Marking - Crosswalk",
        "Lane Marking - Give Way (Row)", "Lane Marking - Give Way (Single)", "Lane Marking - Hatched (Chevron)",
        "Lane Marking - Hatched (Diagonal)",
        "Lane Marking - Other", "Lane Marking - Stop Line", "Lane Marking - Symbol (Bicycle)",
        "Lane Marking - Symbol (Other)", "Lane Marking - Text",
        "Lane Marking (only) - Dashed Line", "Lane Marking (only) - Crosswalk", "Lane Marking (only) - Other",
        "Lane Marking (only) - Test",
    ),
    "sidewalk": ("Sidewalk", "Curb", "Curb Cut", "Pedestrian Area"),
    "building": ("Building", "Garage"),
    "wall": ("Wall",),
    "fence": ("Fence",),
    "pole": ("Pole", "Utility Pole"),
    "traffic light": (
        "Traffic Light", "Traffic Light - General (Single)", "Traffic Light - Pedestrians",
        "Traffic Light - General (Upright)",
        "Traffic Light - General (Horizontal)", "Traffic Light - Cyclists", "Traffic Light - Other",
    ),
    "traffic sign": (
        "Traffic Sign (Front)", "Traffic Sign - Ambiguous", "Traffic Sign - Direction (Front)",
        "Traffic Sign (Front)", "Traffic Sign - Parking",
        "Traffic Sign - Temporary (Front)",
    ),
    "vegetation": ("Vegetation",),
    "terrain": ("Terrain",),
    "sky": ("Sky",),
    "person": ("Person", "Person Group"),
    "rider": ("Bicyclist", "Motorcyclist", "Other Rider"),
    "car": ("Car",),
    "truck": ("Truck",),
    "bus": ("Bus",),
    "train": ("On Rails",),
    "motorcycle": ("Motorcycle",),
    "bicycle": ("Bicycle",),
}
TRAIN_CLASS: dict[str, str] = {name: train_class for train_class, names in _TRAIN_CLASSES.items() for name in names}
"""Readable name to one of Cityscapes' 19 evaluated classes; a name that is missing is ignored."""

_KNOWN = frozenset(NAMES_V1) | frozenset(NAMES_V2)
# fmt: on


def known(name: str) -> bool:
    """Whether a label of this readable or dotted name exists in either version."""
    return name in _KNOWN or name in _DOTTED_V1


def readable(name: str) -> str:
    """The readable form of a label name of either version, given readable or (version 1.2) dotted.

    Raises:
        ValueError: neither version has such a label.
    """
    found = _DOTTED_V1.get(name, name)
    if found not in _KNOWN:
        raise ValueError(
            f"config.json names a label {name!r} that neither Vistas 1.2 nor 2.0 has; is it the data set's own file?"
        )
    return found
