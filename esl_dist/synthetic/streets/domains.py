"""The two domains: one grammar of streets, other statistics (how a street is laid out and filled) and another look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from esl_dist.synthetic.streets import classes as c
from esl_dist.synthetic.streets.canvas import Colour

Range = tuple[float, float]


@dataclass(frozen=True)
class Materials:
    """Albedo of what scenes are built of; a tuple of colours is a choice."""

    asphalt: Colour = (0.33, 0.33, 0.35)
    marking: Colour = (0.92, 0.91, 0.86)
    curb: Colour = (0.72, 0.70, 0.68)
    paving: Colour = (0.62, 0.57, 0.55)
    grass: Colour = (0.46, 0.60, 0.24)
    leaves: tuple[Colour, ...] = ((0.20, 0.44, 0.14), (0.26, 0.47, 0.17), (0.15, 0.38, 0.14))
    trunk: Colour = (0.32, 0.23, 0.16)
    facades: tuple[Colour, ...] = (
        (0.78, 0.68, 0.50),
        (0.66, 0.38, 0.28),
        (0.82, 0.78, 0.70),
        (0.60, 0.54, 0.46),
        (0.72, 0.58, 0.36),
        (0.55, 0.30, 0.24),
        (0.70, 0.66, 0.60),
    )
    roofs: tuple[Colour, ...] = ((0.48, 0.24, 0.18), (0.34, 0.24, 0.22), (0.28, 0.29, 0.33))
    glass: Colour = (0.22, 0.28, 0.36)
    awnings: tuple[Colour, ...] = ((0.75, 0.16, 0.14), (0.14, 0.36, 0.62), (0.16, 0.46, 0.26), (0.85, 0.68, 0.16))
    walls: tuple[Colour, ...] = ((0.58, 0.57, 0.62), (0.64, 0.60, 0.54), (0.50, 0.48, 0.50))
    fences: tuple[Colour, ...] = ((0.24, 0.26, 0.28), (0.52, 0.38, 0.24), (0.80, 0.80, 0.78))
    poles: tuple[Colour, ...] = ((0.46, 0.46, 0.47), (0.38, 0.40, 0.42))
    housing: Colour = (0.13, 0.14, 0.12)
    signs: tuple[Colour, ...] = ((0.84, 0.12, 0.12), (0.10, 0.30, 0.74), (0.92, 0.78, 0.12), (0.12, 0.50, 0.30))
    cars: tuple[Colour, ...] = (
        (0.74, 0.10, 0.10),
        (0.12, 0.20, 0.58),
        (0.88, 0.88, 0.88),
        (0.11, 0.11, 0.13),
        (0.58, 0.60, 0.62),
        (0.16, 0.40, 0.28),
        (0.82, 0.62, 0.14),
    )
    buses: tuple[Colour, ...] = ((0.86, 0.70, 0.12), (0.78, 0.16, 0.14), (0.20, 0.48, 0.30))
    cargo: tuple[Colour, ...] = ((0.90, 0.90, 0.88), (0.30, 0.44, 0.66), (0.80, 0.46, 0.16))
    bikes: tuple[Colour, ...] = ((0.14, 0.14, 0.16), (0.62, 0.12, 0.14), (0.12, 0.26, 0.56))
    tops: tuple[Colour, ...] = (
        (0.78, 0.16, 0.16),
        (0.18, 0.28, 0.66),
        (0.90, 0.88, 0.84),
        (0.88, 0.68, 0.16),
        (0.20, 0.50, 0.30),
        (0.20, 0.20, 0.22),
    )
    trousers: tuple[Colour, ...] = ((0.16, 0.18, 0.30), (0.14, 0.14, 0.14), (0.46, 0.40, 0.30))
    skins: tuple[Colour, ...] = ((0.86, 0.66, 0.54), (0.62, 0.44, 0.32), (0.40, 0.27, 0.20))
    zenith: Colour = (0.30, 0.54, 0.92)
    haze: Colour = (0.78, 0.86, 0.94)


@dataclass(frozen=True)
class Domain:
    """How often, how far and how bright; lengths in metres, counts are means per image."""

    code: int
    """Separates the random streams of the domains."""
    materials: Materials = field(default_factory=Materials)
    # layout
    camera_height: Range = (1.3, 1.6)
    horizon: Range = (0.43, 0.50)
    vanish: Range = (0.40, 0.60)
    road: Range = (3.4, 4.8)
    sidewalk: Range = (2.2, 3.6)
    verge: float = 0.68
    """Chance of a grass strip between a road side and its sidewalk."""
    verge_width: Range = (2.0, 3.8)
    median: float = 0.30
    """Chance of a grass strip between the two directions."""
    setback: Range = (0.5, 5.0)
    storeys: tuple[int, int] = (1, 4)
    plots: tuple[float, float, float] = (0.66, 0.22, 0.12)
    """Chances of a building, a park and a side street on a plot."""
    fence: float = 0.52
    wall: float = 0.34
    crossing: float = 0.35
    # traffic and furniture
    parked: float = 2.8
    driving: float = 1.6
    trucks: float = 0.6
    buses: float = 0.5
    motorcycles: float = 1.2
    bicycles: float = 1.5
    riders: float = 1.7
    persons: float = 4.6
    lamps: float = 2.2
    lights: float = 1.5
    signs: float = 1.8
    trees: float = 3.0
    # look
    variety: float = 0.12
    """How far a material's brightness strays from one object to the next."""
    sun: float = 0.85
    """Chance of direct sun, which casts shadows and lights one side of the street."""
    clouds: float = 0.35
    contrast: float = 0.45
    """Share of light lost in a cast shadow."""
    fine: Mapping[int, float] = field(default_factory=dict)
    """Amplitude of fine texture by label id (others 0.04)."""
    blotch: float = 0.04
    """Amplitude of coarse texture: dirt, wet patches, uneven light."""
    exposure: Range = (0.92, 1.10)
    tint: Colour = (1.0, 1.0, 1.0)
    saturation: float = 1.12
    curve: float = 0.0
    """Tone curve: above 0 darkens the middle tones, below 0 lifts them."""
    extinction: Range = (0.001, 0.004)
    """Haze per metre."""
    vignette: float = 0.0
    noise: float = 0.012
    blur: int = 0
    """Passes of a 1-2-1 filter over the 256-pixel-wide image; wider images blur by as many pixels in proportion."""


SOURCE = Domain(
    code=1,
    fine={
        c.VEGETATION: 0.26,
        c.TERRAIN: 0.16,
        c.ROAD: 0.05,
        c.BUILDING: 0.05,
        c.SIDEWALK: 0.06,
        c.SKY: 0.004,
        c.WALL: 0.08,
    },
)

_DUSTY = replace(
    Materials(),
    asphalt=(0.39, 0.37, 0.36),
    marking=(0.78, 0.77, 0.73),
    curb=(0.56, 0.54, 0.51),
    paving=(0.50, 0.46, 0.44),
    grass=(0.42, 0.48, 0.24),
    leaves=((0.24, 0.36, 0.16), (0.30, 0.38, 0.18), (0.20, 0.32, 0.17)),
    trunk=(0.26, 0.23, 0.20),
    facades=(
        (0.58, 0.54, 0.47),
        (0.47, 0.36, 0.31),
        (0.66, 0.64, 0.60),
        (0.48, 0.46, 0.43),
        (0.58, 0.50, 0.38),
        (0.42, 0.40, 0.40),
    ),
    roofs=((0.38, 0.25, 0.21), (0.30, 0.28, 0.28)),
    glass=(0.27, 0.29, 0.31),
    walls=((0.52, 0.50, 0.49), (0.54, 0.47, 0.41), (0.45, 0.45, 0.42)),
    fences=((0.30, 0.33, 0.31), (0.44, 0.38, 0.32), (0.60, 0.60, 0.57)),
    poles=((0.50, 0.50, 0.49), (0.36, 0.38, 0.35)),
    housing=(0.20, 0.20, 0.18),
    cars=(
        (0.45, 0.46, 0.48),
        (0.14, 0.14, 0.15),
        (0.74, 0.75, 0.76),
        (0.22, 0.26, 0.34),
        (0.48, 0.16, 0.15),
        (0.60, 0.58, 0.54),
    ),
    buses=((0.76, 0.74, 0.62), (0.62, 0.22, 0.18), (0.72, 0.62, 0.22)),
    cargo=((0.78, 0.78, 0.77), (0.42, 0.48, 0.56), (0.62, 0.46, 0.30)),
    tops=((0.20, 0.21, 0.25), (0.34, 0.30, 0.30), (0.46, 0.24, 0.22), (0.58, 0.56, 0.52), (0.24, 0.30, 0.40)),
    trousers=((0.18, 0.19, 0.24), (0.15, 0.15, 0.16), (0.32, 0.29, 0.26)),
    zenith=(0.58, 0.69, 0.84),
    haze=(0.80, 0.81, 0.81),
)

TARGET = Domain(
    code=2,
    materials=_DUSTY,
    camera_height=(1.65, 2.15),
    horizon=(0.37, 0.45),
    vanish=(0.38, 0.62),
    road=(2.9, 3.9),
    sidewalk=(2.2, 3.8),
    verge=0.70,
    verge_width=(1.6, 3.0),
    median=0.20,
    setback=(0.0, 4.5),
    storeys=(2, 5),
    plots=(0.70, 0.20, 0.10),
    fence=0.54,
    wall=0.36,
    parked=3.8,
    driving=1.5,
    trucks=0.65,
    buses=0.5,
    motorcycles=1.2,
    bicycles=1.9,
    riders=1.9,
    persons=5.6,
    lamps=2.4,
    lights=1.6,
    signs=2.0,
    trees=4.0,
    variety=0.15,
    sun=0.35,
    clouds=0.5,
    contrast=0.40,
    fine={
        c.VEGETATION: 0.20,
        c.TERRAIN: 0.13,
        c.ROAD: 0.08,
        c.BUILDING: 0.08,
        c.SIDEWALK: 0.08,
        c.SKY: 0.01,
        c.WALL: 0.11,
        c.FENCE: 0.08,
    },
    blotch=0.08,
    exposure=(0.90, 1.15),
    tint=(1.05, 1.0, 0.93),
    saturation=0.90,
    curve=0.10,
    extinction=(0.004, 0.010),
    vignette=0.15,
    noise=0.022,
    blur=1,
)
