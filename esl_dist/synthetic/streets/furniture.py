"""What stands along a street: lamps, traffic lights, signs, trees and hedges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from esl_dist.synthetic.streets import classes as c
from esl_dist.synthetic.streets.canvas import Canvas, Colour, scaled
from esl_dist.synthetic.streets.dice import Dice
from esl_dist.synthetic.streets.domains import Materials

LAMPS: tuple[Colour, ...] = ((1.0, 0.16, 0.10), (1.0, 0.72, 0.12), (0.16, 0.95, 0.40))


class Upright:
    """Flat shapes that face the camera, ``dx`` metres beside and ``y`` metres above a foot at (x, z)."""

    def __init__(self, canvas: Canvas, x: float, z: float) -> None:
        self.canvas, self.x, self.z, self.scale = canvas, x, z, canvas.pixels_per_metre(z)

    def panel(self, dx: float, y: float, half_width: float, half_height: float, colour: Colour, label: int) -> None:
        x, row = self.canvas.project((self.x + dx, y, self.z))
        w, h = max(half_width * self.scale, 0.5), max(half_height * self.scale, 0.5)
        self.canvas.polygon(
            [(x - w, row - h), (x + w, row - h), (x + w, row + h), (x - w, row + h)], colour, label, self.z
        )

    def round(self, dx: float, y: float, radius: float, colour: Colour, label: int) -> None:
        self.canvas.ellipse(
            self.canvas.project((self.x + dx, y, self.z)),
            radius * self.scale,
            radius * self.scale,
            colour,
            label,
            self.z,
        )

    def triangle(self, y: float, half: float, colour: Colour, label: int) -> None:
        corners = [
            (self.x - half, y - half * 0.8, self.z),
            (self.x + half, y - half * 0.8, self.z),
            (self.x, y + half * 0.95, self.z),
        ]
        self.canvas.face(corners, colour, label, self.z)

    def mast(self, height: float, radius: float, colour: Colour) -> None:
        self.canvas.limb((self.x, 0.0, self.z), (self.x, height, self.z), radius, colour, c.POLE, self.z)
        self.canvas.limb(
            (self.x - radius * 0.6, 0.0, self.z),
            (self.x - radius * 0.6, height, self.z),
            radius * 0.35,
            scaled(colour, 1.3),
            c.POLE,
            self.z,
            least=0.0,
        )


def lamp(canvas: Canvas, x: float, z: float, m: Materials, dice: Dice) -> None:
    """A street lamp with its arm over the road, or a bare mast."""
    u, height, colour = Upright(canvas, x, z), dice.between((4.5, 7.5)), dice.pick(m.poles)
    u.mast(height, 0.15, colour)
    if dice.chance(0.7):
        reach = -1.6 if x > 0 else 1.6
        canvas.limb((x, height - 0.1, z), (x + reach, height + 0.25, z), 0.07, colour, c.POLE, z)
        u.panel(reach, height + 0.2, 0.42, 0.10, scaled(colour, 1.25), c.POLE)


def traffic_light(canvas: Canvas, x: float, z: float, m: Materials, dice: Dice) -> None:
    """A post with its signal head, now and then a second one on an arm over the road."""
    u, height, colour, lit = (
        Upright(canvas, x, z),
        dice.between((3.0, 3.8)),
        dice.pick(m.poles),
        dice.pick((0, 0, 1, 2, 2)),
    )
    u.mast(height, 0.11, colour)
    heads = [(0.0, height - 0.55)]
    if dice.chance(0.45):
        reach, y = (-2.6 if x > 0 else 2.6), height + 1.6
        u.mast(y, 0.13, colour)
        canvas.limb((x, y, z), (x + reach, y + 0.1, z), 0.08, colour, c.POLE, z)
        heads.append((reach, y - 0.2))
    for dx, y in heads:
        u.panel(dx, y, 0.30, 0.66, m.housing, c.LIGHT)
        for k, lamp_colour in enumerate(LAMPS):
            u.round(dx, y + 0.40 - 0.40 * k, 0.155, lamp_colour if k == lit else scaled(lamp_colour, 0.22), c.LIGHT)


def sign(canvas: Canvas, x: float, z: float, m: Materials, dice: Dice) -> None:
    """A prohibition disc, a warning triangle, a blue square or a direction board on a post."""
    u, kind, height = Upright(canvas, x, z), dice.pick((0, 0, 1, 2, 3)), dice.between((2.2, 2.9))
    white: Colour = (0.94, 0.94, 0.92)
    u.mast(height, 0.08, dice.pick(m.poles))
    if kind == 0:
        u.round(0.0, height, 0.44, m.signs[0], c.SIGN)
        u.round(0.0, height, 0.30, white if dice.chance(0.7) else m.signs[0], c.SIGN)
        u.panel(0.0, height, 0.20, 0.06, white if dice.chance(0.4) else (0.12, 0.12, 0.12), c.SIGN)
    elif kind == 1:
        u.triangle(height, 0.52, m.signs[0], c.SIGN)
        u.triangle(height - 0.02, 0.30, white, c.SIGN)
    elif kind == 2:
        u.panel(0.0, height, 0.42, 0.42, m.signs[1], c.SIGN)
        u.panel(0.0, height, 0.18, 0.24, white, c.SIGN)
    else:
        colour = dice.pick(m.signs[1:])
        u.panel(0.0, height + 0.1, 0.85, 0.42, white, c.SIGN)
        u.panel(0.0, height + 0.1, 0.79, 0.36, colour, c.SIGN)
        u.panel(-0.1, height + 0.24, 0.5, 0.06, white, c.SIGN)
        u.panel(-0.1, height - 0.02, 0.5, 0.06, white, c.SIGN)


def tree(canvas: Canvas, x: float, z: float, m: Materials, dice: Dice, rough: NDArray[np.float32]) -> None:
    """A trunk and a crown of overlapping tufts, lighter towards the top; trunk and crown are vegetation."""
    height, leaves, scale = (
        dice.between((4.5, 8.0)),
        scaled(dice.pick(m.leaves), dice.between((0.85, 1.15))),
        canvas.pixels_per_metre(z),
    )
    canvas.limb((x, 0.0, z), (x, height * 0.6, z), 0.16, m.trunk, c.VEGETATION, z)
    crown = height * 0.30
    tufts = (
        (0.0, 0.66, 1.0, 0.70),
        (-0.55, 0.58, 0.66, 0.82),
        (0.55, 0.60, 0.66, 0.78),
        (-0.3, 0.78, 0.62, 1.05),
        (0.32, 0.80, 0.60, 1.0),
        (0.0, 0.88, 0.52, 1.22),
    )
    for dx, y, size, tone in tufts:
        px, py = canvas.project((x + dx * crown + dice.between((-0.2, 0.2)), y * height, z))
        canvas.ellipse(
            (px, py),
            size * crown * scale,
            size * crown * 0.82 * scale,
            scaled(leaves, tone),
            c.VEGETATION,
            z,
            rough=rough,
        )


def hedge(canvas: Canvas, x: float, z: float, m: Materials, dice: Dice, rough: NDArray[np.float32]) -> None:
    """A bush, wider than tall, dark at its foot."""
    leaves, scale, size = dice.pick(m.leaves), canvas.pixels_per_metre(z), dice.between((0.6, 1.3))
    for dx, y, grow, tone in (
        (0.0, 0.45, 1.0, 0.75),
        (-0.5, 0.6, 0.7, 0.95),
        (0.5, 0.65, 0.7, 1.0),
        (0.0, 0.9, 0.7, 1.2),
    ):
        px, py = canvas.project((x + dx * size, y * size, z))
        canvas.ellipse(
            (px, py), grow * size * scale, grow * size * 0.7 * scale, scaled(leaves, tone), c.VEGETATION, z, rough=rough
        )
