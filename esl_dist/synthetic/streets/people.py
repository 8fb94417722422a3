"""Pedestrians, bicycles, motorcycles and their riders, made of strokes and discs in the plane they move in."""

from __future__ import annotations

from esl_dist.synthetic.streets import classes as c
from esl_dist.synthetic.streets.canvas import CIRCLE, Canvas, Colour, scaled
from esl_dist.synthetic.streets.dice import Dice
from esl_dist.synthetic.streets.domains import Materials
from esl_dist.synthetic.streets.vehicles import TYRE, Frame


class Body:
    """Strokes with one label at one distance, in a frame's local axes (forward s, right r, up y)."""

    def __init__(self, canvas: Canvas, frame: Frame, label: int) -> None:
        self.canvas, self.frame, self.label = canvas, frame, label

    def limb(self, a: tuple[float, float, float], b: tuple[float, float, float], radius: float, colour: Colour) -> None:
        self.canvas.limb(self.frame.at(*a), self.frame.at(*b), radius, colour, self.label, self.frame.z)

    def ball(self, s: float, r: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        scale = self.canvas.pixels_per_metre(self.frame.z)
        self.canvas.ellipse(
            self.canvas.project(self.frame.at(s, r, y)), rx * scale, ry * scale, colour, self.label, self.frame.z
        )

    def wheel(self, s: float, radius: float, rim: float, hub: Colour | None) -> None:
        """The whole disc is labelled, as annotators do; ``hub`` None leaves what is behind the spokes visible."""
        along, centre = (self.frame.hx, self.frame.hz), self.frame.at(s, 0.0, radius)
        steps = 10
        self.canvas.disc(centre, along, radius, None if hub is None else TYRE, self.label, self.frame.z)
        if hub is not None:
            self.canvas.disc(centre, along, radius - 2 * rim, hub, self.label, self.frame.z)
        else:
            from_circle = [(x * radius, y * radius) for x, y in CIRCLE]
            for i in range(steps):
                (s0, y0), (s1, y1) = from_circle[i], from_circle[(i + 1) % steps]
                self.limb((s + s0, 0.0, radius + y0), (s + s1, 0.0, radius + y1), rim, TYRE)
        self.limb((s, 0.0, 0.0), (s, 0.0, 2 * radius), rim, TYRE)


def person(canvas: Canvas, frame: Frame, m: Materials, dice: Dice) -> None:
    """Someone walking or standing, perhaps with a bag."""
    b, h, stride = Body(canvas, frame, c.PERSON), dice.between((1.5, 1.9)), dice.between((0.02, 0.32))
    top, legs, skin = scaled(dice.pick(m.tops), dice.between((0.8, 1.1))), dice.pick(m.trousers), dice.pick(m.skins)
    x, y = canvas.project(frame.at(0.0, 0.0, 0.0))
    scale = canvas.pixels_per_metre(frame.z)
    canvas.shade(
        [
            (x - 0.4 * scale, y - 0.06 * scale),
            (x + 0.4 * scale, y - 0.06 * scale),
            (x + 0.4 * scale, y + 0.06 * scale),
            (x - 0.4 * scale, y + 0.06 * scale),
        ],
        0.6,
    )
    b.limb((stride, 0.09, 0.0), (0.0, 0.09, 0.50 * h), 0.095, legs)
    b.limb((-stride, -0.09, 0.0), (0.0, -0.09, 0.50 * h), 0.095, scaled(legs, 0.8))
    b.limb((0.0, 0.0, 0.46 * h), (0.0, 0.0, 0.84 * h), 0.20, top)
    b.limb((0.0, 0.24, 0.80 * h), (-stride * 0.8, 0.27, 0.46 * h), 0.06, scaled(top, 0.85))
    b.limb((0.0, -0.24, 0.80 * h), (stride * 0.8, -0.27, 0.46 * h), 0.06, scaled(top, 0.85))
    if dice.chance(0.3):
        b.limb((-0.18, 0.0, 0.60 * h), (-0.18, 0.0, 0.80 * h), 0.15, dice.pick(m.tops))
    b.ball(0.0, 0.0, 0.92 * h, 0.105, 0.13, skin)
    b.ball(-0.01, 0.0, 0.955 * h, 0.115, 0.085, scaled(m.trunk, dice.between((0.4, 1.4))))


def bicycle(canvas: Canvas, frame: Frame, m: Materials, dice: Dice) -> None:
    b, paint = Body(canvas, frame, c.BICYCLE), dice.pick(m.bikes)
    b.wheel(-0.52, 0.35, 0.035, None)
    b.wheel(0.52, 0.35, 0.035, None)
    canvas.face(
        [frame.at(s, 0.0, y) for s, y in ((-0.52, 0.35), (0.02, 0.28), (0.40, 0.80), (-0.20, 0.84))],
        None,
        c.BICYCLE,
        frame.z,
    )
    for s0, y0, s1, y1 in (
        (-0.52, 0.35, 0.02, 0.30),
        (0.02, 0.30, 0.42, 0.74),
        (-0.18, 0.78, 0.42, 0.74),
        (0.02, 0.30, -0.20, 0.92),
        (-0.52, 0.35, -0.18, 0.78),
        (0.52, 0.35, 0.38, 0.98),
    ):
        b.limb((s0, 0.0, y0), (s1, 0.0, y1), 0.04, paint)
    b.limb((-0.32, 0.0, 0.93), (-0.08, 0.0, 0.93), 0.05, TYRE)
    b.limb((0.38, -0.28, 1.0), (0.38, 0.28, 1.0), 0.035, TYRE)


def motorcycle(canvas: Canvas, frame: Frame, m: Materials, dice: Dice) -> None:
    b, paint = Body(canvas, frame, c.MOTORCYCLE), scaled(dice.pick(m.cars), 0.9)
    b.wheel(-0.68, 0.32, 0.07, (0.30, 0.30, 0.31))
    b.wheel(0.68, 0.32, 0.07, (0.30, 0.30, 0.31))
    b.limb((-0.45, 0.0, 0.42), (0.42, 0.0, 0.42), 0.20, (0.20, 0.20, 0.21))
    b.limb((-0.9, 0.0, 0.66), (-0.3, 0.0, 0.72), 0.13, paint)
    b.limb((-0.15, 0.0, 0.78), (0.35, 0.0, 0.84), 0.17, paint)
    b.limb((-0.75, 0.0, 0.84), (-0.1, 0.0, 0.82), 0.07, TYRE)
    b.limb((0.68, 0.0, 0.32), (0.42, 0.0, 1.05), 0.06, (0.55, 0.55, 0.56))
    b.limb((0.44, -0.36, 1.06), (0.44, 0.36, 1.06), 0.05, TYRE)
    b.limb((0.0, 0.0, 0.25), (0.0, 0.0, 0.82), 0.18, scaled(paint, 0.7))
    b.limb((-0.85, 0.17, 0.30), (-0.2, 0.17, 0.34), 0.06, (0.62, 0.62, 0.63))
    b.ball(0.52, 0.0, 0.92, 0.13, 0.13, (0.95, 0.94, 0.84) if frame.hz < 0 else (0.62, 0.06, 0.05))
    b.ball(-0.92, 0.0, 0.68, 0.10, 0.06, (0.62, 0.06, 0.05))


def rider(canvas: Canvas, frame: Frame, m: Materials, dice: Dice) -> None:
    """Someone on a bicycle (two in three) or a motorcycle; the machine keeps its own class."""
    motor = dice.chance(0.36)
    (motorcycle if motor else bicycle)(canvas, frame, m, dice)
    b, seat, reach = Body(canvas, frame, c.RIDER), 0.88 if motor else 0.98, 0.36
    top, legs, skin = scaled(dice.pick(m.tops), dice.between((0.8, 1.1))), dice.pick(m.trousers), dice.pick(m.skins)
    for r, foot in ((0.13, 0.30), (-0.13, 0.48)):
        b.limb((-0.16, r, seat), (0.22, r, 0.68), 0.09, legs)
        b.limb((0.22, r, 0.68), (0.04, r, foot), 0.075, scaled(legs, 0.85))
    b.limb((-0.18, 0.0, seat - 0.05), (0.04, 0.0, seat + 0.56), 0.21, top)
    for r in (0.24, -0.24):
        b.limb((0.04, r, seat + 0.48), (reach, r, 1.04), 0.06, scaled(top, 0.85))
    b.ball(0.12, 0.0, seat + 0.72, 0.11, 0.14, skin)
    b.ball(0.11, 0.0, seat + 0.78, 0.14, 0.12, scaled(dice.pick(m.cars), 0.9))
