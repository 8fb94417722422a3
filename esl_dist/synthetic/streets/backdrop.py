"""What a scene stands on and in front of: sky, ground with its bands and markings, facades, walls and fences."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from esl_dist.synthetic.streets import classes as c
from esl_dist.synthetic.streets.canvas import FAR, Canvas, Colour, scaled
from esl_dist.synthetic.streets.dice import TILE, Dice, noise_tiles, rolled
from esl_dist.synthetic.streets.domains import Domain

ASPHALT, MARKING, CURB, PAVING, GRASS = range(5)
_GROUND_LABEL = np.array([c.ROAD, c.ROAD, c.SIDEWALK, c.SIDEWALK, c.TERRAIN], np.uint8)


@dataclass(frozen=True)
class Plot:
    """A stretch of one street side from ``near`` to ``far``: what stands on it and how far back."""

    kind: str
    """``building``, ``park`` or ``street``."""
    near: float
    far: float
    setback: float
    lawn: bool


@dataclass(frozen=True)
class RoadSide:
    """One side of the street: widths in metres from the middle outwards, and its plots in order of distance."""

    verge: float
    sidewalk: float
    plots: tuple[Plot, ...]


@dataclass(frozen=True)
class Street:
    road: float
    """Half the width of the carriageway."""
    left: RoadSide
    right: RoadSide
    median: float
    """Half the width of a grass strip between the two directions, 0 without one."""
    crossing: float | None
    """Distance of a zebra crossing."""

    def side(self, sign: int) -> RoadSide:
        return self.right if sign > 0 else self.left

    def border(self, sign: int) -> float:
        """Where the sidewalk ends and the plots begin."""
        side = self.side(sign)
        return self.road + side.verge + side.sidewalk


def sky(canvas: Canvas, domain: Domain, dice: Dice) -> None:
    """A gradient from the zenith to the haze of the horizon, with clouds."""
    top, low = np.array(domain.materials.zenith, np.float32), np.array(domain.materials.haze, np.float32)
    share = np.minimum(canvas.ys / np.float32(max(canvas.horizon, 1.0)), np.float32(1.0))[:, None, None]
    canvas.rgb[:] = top * (1 - share) + low * share
    cover = np.clip(
        rolled(noise_tiles()[1], canvas.height, canvas.width, dice) + np.float32(dice.between((-0.5, 0.3))), 0, 1
    ) * np.float32(domain.clouds)
    canvas.rgb += cover[..., None] * (np.float32(0.97) - canvas.rgb)
    canvas.label[:] = c.SKY


def ground(canvas: Canvas, street: Street, domain: Domain, dice: Dice, shadow: float | None) -> None:
    """Every pixel below the horizon; ``shadow`` is the X that the shade of one row of houses reaches, sign included."""
    first = min(max(int(canvas.horizon) + 1, 0), canvas.height - 1)
    z = np.float32(canvas.focal * canvas.camera_height) / np.maximum(
        canvas.ys[first:] - np.float32(canvas.horizon), np.float32(0.3)
    )
    x = ((canvas.xs - np.float32(canvas.vanish)) * np.float32(1 / canvas.focal))[None] * z[:, None] + np.float32(
        canvas.eye
    )
    away = np.abs(x)
    material = np.full(x.shape, ASPHALT, np.uint8)
    for sign in (-1, 1):
        _side_bands(material, x * np.float32(sign), z, street, sign)
    if street.median:
        material[away < street.median] = CURB
        material[away < street.median - 0.18] = GRASS
    _markings(material, away, x, z, street)
    fine, coarse = noise_tiles()
    rows, columns = (z * np.float32(14)).astype(np.int32)[:, None] % TILE, (x * np.float32(14)).astype(np.int32) % TILE
    texture = np.float32(1.0) + fine[rows, columns] * np.array([0.06, 0.04, 0.05, 0.06, 0.16], np.float32)[material]
    joint = (
        (material == PAVING)
        & (z[:, None] < 25)
        & (((x % np.float32(0.9)) < np.float32(0.07)) | ((z % np.float32(0.9)) < np.float32(0.07))[:, None])
    )
    texture[joint] *= np.float32(0.84)
    rut = np.abs(np.abs(away - np.float32(street.road * 0.5)) - np.float32(0.75)) < np.float32(0.22)
    texture[rut & (material == ASPHALT)] *= np.float32(0.93)
    if shadow is not None:
        ragged = np.float32(shadow) + coarse[(z * np.float32(3)).astype(np.int32) % TILE, 0][:, None] * np.float32(0.8)
        texture[(x > ragged) if shadow > 0 else (x < ragged)] *= np.float32(1 - domain.contrast)
    m = domain.materials
    vary = [1 + domain.variety * dice.between((-1, 1)) for _ in range(5)]
    colours = np.array(
        [scaled(k, v) for k, v in zip((m.asphalt, m.marking, m.curb, m.paving, m.grass), vary, strict=True)], np.float32
    )
    canvas.rgb[first:] = colours[material] * texture[..., None]
    canvas.label[first:] = _GROUND_LABEL[material]
    canvas.depth[first:] = np.minimum(z, np.float32(FAR))[:, None]


def _side_bands(
    material: NDArray[np.uint8], out: NDArray[np.float32], z: NDArray[np.float32], street: Street, sign: int
) -> None:
    """Curb, verge, sidewalk and plots of one side; ``out`` is the distance outwards from the middle of the road."""
    side, edge, border = street.side(sign), street.road, street.border(sign)
    material[out > edge] = CURB
    material[out > edge + 0.22] = GRASS if side.verge else PAVING
    if side.verge:
        material[out > edge + side.verge] = PAVING
    material[out > border] = GRASS
    for plot in side.plots:
        rows = np.flatnonzero((z >= plot.near) & (z < plot.far))
        if not len(rows):
            continue
        band = slice(int(rows[0]), int(rows[-1]) + 1)
        if plot.kind == "street":
            material[band][out[band] > edge] = ASPHALT
        elif not plot.lawn:
            material[band][out[band] > border] = PAVING


def _markings(
    material: NDArray[np.uint8],
    away: NDArray[np.float32],
    x: NDArray[np.float32],
    z: NDArray[np.float32],
    street: Street,
) -> None:
    """Edge lines, the dashed middle line and a zebra crossing with its stop lines; lines keep about half a pixel far
    away.
    """
    soft = (z * np.float32(0.003))[:, None]
    seen = (z < 60)[:, None]
    dashed = ((z % np.float32(6.0)) < np.float32(3.2))[:, None]
    clear = np.ones(len(z), np.bool_)
    if street.crossing is not None:
        clear = (z < street.crossing - 1.2) | (z > street.crossing + 3.6)
        zebra = (
            ((z >= street.crossing) & (z < street.crossing + 2.4))[:, None]
            & ((x % np.float32(1.0)) < np.float32(0.5))
            & (away < street.road - 0.3)
        )
        material[zebra & (material == ASPHALT)] = MARKING
        stop = ((z > street.crossing - 1.2) & (z < street.crossing - 0.8))[:, None] & (x > 0) & (x < street.road - 0.3)
        material[stop & (material == ASPHALT)] = MARKING
    lines = (np.abs(away - np.float32(street.road - 0.35)) < np.float32(0.07) + soft) | (
        (away < np.float32(0.07) + soft) & dashed
    )
    material[lines & seen & clear[:, None] & (material == ASPHALT)] = MARKING


@dataclass(frozen=True)
class Facade:
    """How a building is dressed; lengths in metres."""

    height: float
    wall: Colour
    roof: Colour
    roof_height: float
    glass: Colour
    shop: Colour | None
    """Colour of the awning over a shop window on the ground floor, None without a shop."""
    bay: float
    """Distance between windows."""
    storey: float
    seed: int


def _dress(
    facade: Facade, u: NDArray[np.float32], v: NDArray[np.float32], detail: NDArray[np.float32], light: float
) -> NDArray[np.float32]:
    """Colour ``[h, w, 3]`` of a facade at ``u`` metres along (``[1, w]``) and ``v`` metres up (``[h, w]`` or ``[h,
    1]``); ``detail`` in [0, 1].
    """
    base = 3.6 if facade.shop is not None else 0.8
    across, up = u * np.float32(1 / facade.bay), (v - np.float32(base)) * np.float32(1 / facade.storey)
    iu, iv = np.floor(across), np.floor(up)
    fu, fv = across - iu, up - iv
    top = np.float32(facade.height)
    floors = (iv >= 0) & (v < top - 0.6)
    window = (np.abs(fu - np.float32(0.5)) < 0.26) & ((np.abs(fv - np.float32(0.53)) < 0.27) & floors)
    frame = (np.abs(fu - np.float32(0.5)) < 0.33) & ((np.abs(fv - np.float32(0.53)) < 0.35) & floors)
    part = frame.view(np.uint8) * np.uint8(2) - window.view(
        np.uint8
    )  # 0 wall, 1 glass, 2 frame and cornice, 3 awning, 4 roof
    if facade.shop is not None:
        part[(np.abs(fu - np.float32(0.5)) < 0.42) & ((v > 0.5) & (v < 2.5))] = 1
        part[np.broadcast_to((v >= 2.5) & (v < 3.2), part.shape)] = 3
    if facade.roof_height:
        part[np.broadcast_to(v > top, part.shape)] = 4
    part[np.broadcast_to((v > top - 0.3) & (v <= top), part.shape)] = 2
    wall = np.array(facade.wall, np.float32)
    glass = np.array(facade.glass, np.float32)
    colours = np.stack(
        [
            wall,
            glass,
            wall * np.float32(1.14),
            np.array(facade.shop or facade.wall, np.float32),
            np.array(facade.roof, np.float32),
        ]
    )
    pane = noise_tiles()[0][
        (iu.astype(np.int32) * 7 + facade.seed) % TILE, (iv.astype(np.int32) * 13 + facade.seed) % TILE
    ]
    tone = (np.float32(1.0) + pane * np.array([0.0, 0.45, 0.0, 0.0, 0.0], np.float32)[part]) * np.float32(light)
    result: NDArray[np.float32] = colours[part] * tone[..., None]
    if detail.min() < 1:
        # Windows narrower than a pixel would flicker: far away they melt into the wall.
        far = (glass * np.float32(0.35) + wall * np.float32(0.65)) * np.float32(light)
        result = far + (result - far) * np.maximum(np.broadcast_to(detail, part.shape), part == 4)[..., None]
    return result


def building(
    canvas: Canvas, facade: Facade, side: int, x: float, near: float, far: float, lights: tuple[float, float]
) -> None:
    """The long face at ``X = side * x`` and the end that faces the camera; ``lights`` for the two, in that order."""
    focal, horizon, offset = canvas.focal, canvas.horizon, side * x - canvas.eye
    total = facade.height + facade.roof_height
    a, b = canvas.vanish + focal * offset / near, canvas.vanish + focal * offset / far
    window = canvas.box(
        min(a, b),
        max(a, b),
        horizon - focal * (total - canvas.camera_height) / near,
        horizon + focal * canvas.camera_height / near,
    )
    if window is not None:
        z = np.clip(
            np.float32(focal * offset) / (canvas.xs[window[1]] - np.float32(canvas.vanish)),
            np.float32(near),
            np.float32(far),
        )
        v = (
            np.float32(canvas.camera_height)
            - (canvas.ys[window[0]] - np.float32(horizon))[:, None] * (z * np.float32(1 / focal))[None]
        )
        mask = (v >= 0) & (v < total)
        detail = np.clip((np.float32(70) - z) * np.float32(1 / 40), 0, 1)[None]
        colour = _dress(facade, (z - np.float32(near))[None], v, detail, lights[0])
        canvas.paint(window, mask, colour[mask], c.BUILDING, far)
        canvas.depth[window][mask] = np.broadcast_to(z[None], v.shape)[mask]
    scale = focal / near
    start, depth = canvas.vanish + offset * scale, 14.0
    window = canvas.box(
        min(start, start + side * depth * scale),
        max(start, start + side * depth * scale),
        horizon - (facade.height - canvas.camera_height) * scale,
        horizon + canvas.camera_height * scale,
    )
    if window is not None:
        u = np.abs(canvas.xs[window[1]] - np.float32(start)) * np.float32(1 / scale)
        v = np.float32(canvas.camera_height) - (canvas.ys[window[0]] - np.float32(horizon)) * np.float32(1 / scale)
        shape = (len(v), len(u))
        colour = _dress(
            facade, u[None], v[:, None], np.full((1, 1), min(max((70 - near) / 40, 0.0), 1.0), np.float32), lights[1]
        )
        canvas.paint(window, np.ones(shape, np.bool_), colour.reshape(-1, 3), c.BUILDING, near)


def barrier(
    canvas: Canvas,
    label: int,
    colour: Colour,
    side: int,
    x: float,
    along: tuple[float, float],
    height: float,
    light: float,
) -> None:
    """A wall or a fence at ``X = side * x``, from near to far. A fence is labelled as a whole, though one sees through
    it between its pickets.
    """
    near, far = along
    focal, horizon, offset = canvas.focal, canvas.horizon, side * x - canvas.eye
    a, b = canvas.vanish + focal * offset / near, canvas.vanish + focal * offset / far
    window = canvas.box(
        min(a, b),
        max(a, b),
        horizon - focal * (height - canvas.camera_height) / near,
        horizon + focal * canvas.camera_height / near,
    )
    if window is None:
        return
    z = np.clip(
        np.float32(focal * offset) / (canvas.xs[window[1]] - np.float32(canvas.vanish)),
        np.float32(near),
        np.float32(far),
    )
    v = (
        np.float32(canvas.camera_height)
        - (canvas.ys[window[0]] - np.float32(horizon))[:, None] * (z * np.float32(1 / focal))[None]
    )
    mask = (v >= 0) & (v < height)
    tone = np.full(v.shape, np.float32(light))
    solid = mask
    depth = z[None]
    if label == c.FENCE:
        picket = (depth % np.float32(0.5)) < np.float32(0.24)
        post = (depth % np.float32(2.5)) < np.float32(0.22)
        rail = ((v > height - 0.16) | ((v > 0.12) & (v < 0.28))) | post
        solid = mask & (picket | rail)
        tone = np.where(rail, np.float32(light * 1.12), np.float32(light))
    else:
        course = np.floor(v * np.float32(2.2))
        joint = ((v * np.float32(2.2) - course) < 0.14) | (
            ((depth + np.float32(0.45) * (course % 2)) % np.float32(0.9)) < 0.07
        )
        tone = np.where(
            v > height - 0.18,
            np.float32(light * 1.2),
            np.where(joint & (depth < 30), np.float32(light * 0.78), np.float32(light)),
        )
    canvas.paint(window, mask, None, label, far)
    canvas.depth[window][mask] = np.broadcast_to(depth, v.shape)[mask]
    canvas.rgb[window][solid] = np.array(colour, np.float32) * tone[solid][:, None]
