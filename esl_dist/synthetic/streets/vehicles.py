"""Cars, trucks and buses: a few tapered boxes each, with glass, lights and wheels, at any heading."""

from __future__ import annotations

from collections.abc import Sequence

from esl_dist.synthetic.streets import classes as c
from esl_dist.synthetic.streets.canvas import Canvas, Colour, Point, scaled
from esl_dist.synthetic.streets.dice import Dice
from esl_dist.synthetic.streets.domains import Materials

DARK: Colour = (0.06, 0.06, 0.07)
TYRE: Colour = (0.07, 0.07, 0.07)
HUB: Colour = (0.45, 0.45, 0.46)
TAIL: Colour = (0.78, 0.06, 0.05)
HEAD: Colour = (0.98, 0.96, 0.84)
PLATE: Colour = (0.86, 0.86, 0.80)


class Frame:
    """Local axes of a vehicle: ``s`` metres forward from its middle, ``r`` metres to its right, ``y`` metres up."""

    def __init__(self, x: float, z: float, heading: tuple[float, float], eye: float) -> None:
        self.x, self.z, (self.hx, self.hz), self.eye = x, z, heading, eye

    def at(self, s: float, r: float, y: float) -> Point:
        return self.x + s * self.hx + r * self.hz, y, self.z + s * self.hz - r * self.hx

    def faces_camera(self, ds: float, dr: float, s: float, r: float) -> bool:
        """Whether the camera sees the upright face with outward normal (ds, dr) through local point (s, r)."""
        px, _, pz = self.at(s, r, 0.0)
        nx, nz = ds * self.hx + dr * self.hz, ds * self.hz - dr * self.hx
        return (px - self.eye) * nx + pz * nz < 0


class Solid:
    """A box whose top may be smaller than its bottom; faces are cut into patches by fractions across and up."""

    def __init__(
        self, frame: Frame, bottom: tuple[float, float, float], top: tuple[float, float, float], y0: float, y1: float
    ) -> None:
        """``bottom`` and ``top``: (rear s, front s, half width)."""
        self.frame, self.bottom, self.top, self.y0, self.y1 = frame, bottom, top, y0, y1

    def corner(self, s: float, r: float, y: float) -> Point:
        """``s`` in [0, 1] from rear to front, ``r`` in [-1, 1] from left to right, ``y`` in [0, 1] from
        bottom to top.
        """
        rear = self.bottom[0] + (self.top[0] - self.bottom[0]) * y
        front = self.bottom[1] + (self.top[1] - self.bottom[1]) * y
        half = self.bottom[2] + (self.top[2] - self.bottom[2]) * y
        return self.frame.at(rear + (front - rear) * s, r * half, self.y0 + (self.y1 - self.y0) * y)

    def patch(self, face: str, a0: float, b0: float, a1: float, b1: float) -> list[Point]:
        """From (a0, b0) to (a1, b1): along and up on ``left``/``right``, across and up on ``rear``/``front``."""
        if face in ("left", "right"):
            r = 1.0 if face == "right" else -1.0
            return [self.corner(a, r, b) for a, b in ((a0, b0), (a1, b0), (a1, b1), (a0, b1))]
        s = 1.0 if face == "front" else 0.0
        return [self.corner(s, 2 * a - 1, b) for a, b in ((a0, b0), (a1, b0), (a1, b1), (a0, b1))]

    def lid(self) -> list[Point]:
        return [self.corner(s, r, 1.0) for s, r in ((0, -1), (1, -1), (1, 1), (0, 1))]

    def seen(self) -> list[str]:
        rear, front, half = self.bottom
        tests = {
            "rear": (-1, 0, rear, 0.0),
            "front": (1, 0, front, 0.0),
            "left": (0, -1, 0.0, -half),
            "right": (0, 1, 0.0, half),
        }
        return [name for name, test in tests.items() if self.frame.faces_camera(*test)]


class Painter:
    """Draws the parts of one vehicle with one label at one distance, lighting each face by where it points."""

    def __init__(self, canvas: Canvas, frame: Frame, label: int, sun: int) -> None:
        self.canvas, self.frame, self.label, self.sun = canvas, frame, label, sun

    def light(self, face: str) -> float:
        if face in ("rear", "front"):
            return 0.88
        lit = (self.frame.hz > 0) == (face == "right")
        return 0.80 + 0.14 * self.sun * (-1 if lit else 1)

    def patch(self, points: Sequence[Point], colour: Colour) -> None:
        self.canvas.face(points, colour, self.label, self.frame.z)

    def solid(self, solid: Solid, colour: Colour, lid: Colour | None = None) -> list[str]:
        """All faces that the camera sees; returns their names."""
        seen = solid.seen()
        if self.canvas.camera_height > solid.y1:
            self.patch(solid.lid(), lid or scaled(colour, 1.12))
        for face in seen:
            tone = self.light(face)
            self.patch(solid.patch(face, 0, 0, 1, 1), scaled(colour, tone * 0.86))
            self.patch(solid.patch(face, 0, 0.45, 1, 1), scaled(colour, tone))
        return seen

    def wheels(self, seen: Sequence[str], places: Sequence[float], half: float, radius: float) -> None:
        for face in ("left", "right"):
            r = half if face == "right" else -half
            for s in places:
                if face in seen:
                    centre, along = self.frame.at(s, r * 1.01, radius), (self.frame.hx, self.frame.hz)
                    self.canvas.disc(centre, along, radius, TYRE, self.label, self.frame.z)
                    self.canvas.disc(centre, along, radius * 0.5, HUB, self.label, self.frame.z)
        for end, s in (("rear", min(places)), ("front", max(places))):
            if end in seen:
                for r in (-half * 0.82, half * 0.82):
                    self.patch(
                        [
                            self.frame.at(s, r + d, y)
                            for d, y in ((-0.12, 0.0), (0.12, 0.0), (0.12, radius), (-0.12, radius))
                        ],
                        TYRE,
                    )

    def end_lights(self, solid: Solid, seen: Sequence[str], low: float, high: float, width: float) -> None:
        for end, colour in (("rear", TAIL), ("front", HEAD)):
            if end in seen:
                self.patch(solid.patch(end, 0.03, low, 0.03 + width, high), colour)
                self.patch(solid.patch(end, 0.97 - width, low, 0.97, high), colour)

    def ground_shadow(self, length: float, half: float) -> None:
        corners = [
            self.frame.at(s, r, 0.0)
            for s, r in (
                (-length / 2 - 0.1, -half - 0.15),
                (length / 2, -half - 0.15),
                (length / 2, half + 0.15),
                (-length / 2 - 0.1, half + 0.15),
            )
        ]
        self.canvas.shade([self.canvas.project(p) for p in corners], 0.38)


def car(canvas: Canvas, frame: Frame, m: Materials, dice: Dice, sun: int) -> None:
    """A hatchback, a saloon or a van, by its proportions."""
    body, paint = dice.pick((0, 0, 1, 1, 2)), scaled(dice.pick(m.cars), dice.between((0.85, 1.12)))
    length, half, height, deck = ((3.9, 0.86, 1.46, 0.88), (4.6, 0.90, 1.42, 0.86), (4.8, 0.96, 1.95, 1.05))[body]
    cabin_rear, cabin_front = ((0.02, 0.74), (0.17, 0.74), (0.01, 0.80))[body]
    roof_rear, roof_front = ((0.10, 0.56), (0.30, 0.58), (0.03, 0.66))[body]
    p, rear = Painter(canvas, frame, c.CAR, sun), -length / 2
    p.ground_shadow(length, half)
    detailed = canvas.pixels_per_metre(frame.z) * height > 7
    seen = Solid(frame, (rear, -rear, half), (rear, -rear, half), 0.2, deck).seen()
    p.wheels(seen, (rear + 0.75, -rear - 0.8), half, 0.33)
    lower = Solid(frame, (rear, -rear, half), (rear + 0.04, -rear - 0.10, half * 0.97), 0.22, deck)
    p.solid(lower, paint)
    if detailed:
        for end in ("rear", "front"):
            if end in seen:
                p.patch(lower.patch(end, 0, 0, 1, 0.26), scaled(paint, 0.42))
                p.patch(lower.patch(end, 0.36, 0.30, 0.64, 0.48), PLATE if end == "rear" else DARK)
        for face in ("left", "right"):
            if face in seen:
                p.patch(lower.patch(face, 0.0, 0.0, 1.0, 0.14), DARK)
        p.wheels([f for f in seen if f in ("left", "right")], (rear + 0.75, -rear - 0.8), half, 0.33)
    p.end_lights(lower, seen, 0.52, 0.80, 0.2)
    cabin = Solid(
        frame,
        (rear + length * cabin_rear, rear + length * cabin_front, half * 0.94),
        (rear + length * roof_rear, rear + length * roof_front, half * 0.76),
        deck,
        height,
    )
    for face in p.solid(cabin, paint, scaled(paint, 1.2)):
        if face in ("rear", "front"):
            p.patch(cabin.patch(face, 0.07, 0.10, 0.93, 0.86), scaled(m.glass, 0.62))
        elif detailed:
            split = 0.5 if body < 2 else 0.62
            p.patch(cabin.patch(face, 0.08, 0.12, split - 0.03, 0.86), scaled(m.glass, 0.55))
            p.patch(cabin.patch(face, split + 0.03, 0.12, 0.92, 0.86), scaled(m.glass, 0.5))


def bus(canvas: Canvas, frame: Frame, m: Materials, dice: Dice, sun: int) -> None:
    """A city bus: a long box with a band of windows, a lit destination board and doors on the right."""
    paint, length, half, height = scaled(dice.pick(m.buses), dice.between((0.9, 1.1))), 10.5, 1.27, 3.05
    p, rear = Painter(canvas, frame, c.BUS, sun), -5.25
    p.ground_shadow(length, half)
    body = Solid(frame, (rear, -rear, half), (rear + 0.08, -rear - 0.12, half * 0.97), 0.28, height)
    seen = p.solid(body, paint, (0.82, 0.82, 0.80))
    glass = scaled(m.glass, 0.6)
    for face in seen:
        if face in ("rear", "front"):
            front = face == "front"
            p.patch(body.patch(face, 0.07, 0.36 if front else 0.52, 0.93, 0.80 if front else 0.82), glass)
            p.patch(body.patch(face, 0.18, 0.84, 0.82, 0.94), (0.95, 0.72, 0.18) if front else DARK)
            p.patch(body.patch(face, 0, 0, 1, 0.10), DARK)
        else:
            for k in range(6):
                p.patch(body.patch(face, 0.02 + k * 0.163, 0.48, 0.165 + k * 0.163, 0.84), glass)
            p.patch(body.patch(face, 0, 0.92, 1, 1), scaled(paint, 0.6))
            p.patch(body.patch(face, 0, 0.24, 1, 0.30), (0.92, 0.92, 0.88))
    p.end_lights(body, seen, 0.13, 0.24, 0.14)
    p.wheels(seen, (rear + 2.4, -rear - 2.2), half, 0.48)


def truck(canvas: Canvas, frame: Frame, m: Materials, dice: Dice, sun: int) -> None:
    """A lorry: a bare cargo box, taller than the cab in front of it, on a dark chassis."""
    cab_paint, box_paint = scaled(dice.pick(m.cars), 0.95), scaled(dice.pick(m.cargo), dice.between((0.85, 1.05)))
    length, half, height = dice.between((6.5, 8.5)), 1.22, dice.between((2.9, 3.5))
    rear = -length / 2
    p = Painter(canvas, frame, c.TRUCK, sun)
    p.ground_shadow(length, half)
    cab = Solid(frame, (-rear - 1.8, -rear, half * 0.96), (-rear - 1.8, -rear - 0.25, half * 0.92), 0.45, 2.5)
    box = Solid(frame, (rear, -rear - 1.95, half), (rear, -rear - 1.95, half), 0.95, height)
    chassis = Solid(frame, (rear + 0.1, -rear - 0.2, half * 0.8), (rear + 0.1, -rear - 0.2, half * 0.8), 0.4, 0.95)
    p.solid(chassis, (0.16, 0.16, 0.17))
    seen = box.seen()
    p.wheels(seen, (rear + 1.3, -rear - 1.2), half, 0.50)

    def draw_cab() -> None:
        for face in p.solid(cab, cab_paint):
            if face == "front":
                p.patch(cab.patch(face, 0.08, 0.48, 0.92, 0.88), scaled(m.glass, 0.55))
                p.patch(cab.patch(face, 0.2, 0.14, 0.8, 0.34), DARK)
            elif face != "rear":
                p.patch(cab.patch(face, 0.25, 0.5, 0.85, 0.86), scaled(m.glass, 0.5))
        p.end_lights(cab, cab.seen(), 0.05, 0.16, 0.18)

    def draw_box() -> None:
        for face in p.solid(box, box_paint, scaled(box_paint, 1.1)):
            if face == "rear":
                p.patch(box.patch(face, 0.485, 0.04, 0.515, 0.96), scaled(box_paint, 0.5))
                p.patch(box.patch(face, 0, 0, 1, 0.05), DARK)
            elif face != "front":
                p.patch(box.patch(face, 0.0, 0.30, 1.0, 0.52), scaled(cab_paint, 0.9))
                for k in range(1, 5):
                    p.patch(box.patch(face, k / 5 - 0.006, 0.0, k / 5 + 0.006, 1.0), scaled(box_paint, 0.62))
        if "rear" in seen:
            for r in (-0.9, 0.9):
                p.patch(
                    [
                        frame.at(rear, r * half + d, y)
                        for d, y in ((-0.16, 0.6), (0.16, 0.6), (0.16, 0.82), (-0.16, 0.82))
                    ],
                    TAIL,
                )
            p.patch(
                [frame.at(rear, r * half, y) for r, y in ((-0.9, 0.45), (0.9, 0.45), (0.9, 0.58), (-0.9, 0.58))],
                (0.5, 0.5, 0.5),
            )

    for draw in (draw_cab, draw_box) if "rear" in seen else (draw_box, draw_cab):
        draw()
