"""One street from a seed: the layout is drawn first, then everything on it, farthest first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from esl_dist.synthetic.streets import backdrop, furniture, people, vehicles
from esl_dist.synthetic.streets import classes as c
from esl_dist.synthetic.streets.backdrop import Facade, Plot, RoadSide, Street
from esl_dist.synthetic.streets.canvas import Canvas, scaled
from esl_dist.synthetic.streets.dice import Dice, noise_tiles, rolled
from esl_dist.synthetic.streets.domains import Domain
from esl_dist.synthetic.streets.look import develop

Draw = Callable[[], None]


class Scene(NamedTuple):
    image: NDArray[np.uint8]
    """``[H, W, 3]`` RGB."""
    label: NDArray[np.uint8]
    """``[H, W]`` Cityscapes label ids."""


def render(domain: Domain, seed: int, split: int, index: int, size: tuple[int, int] = (256, 128)) -> Scene:
    """Image ``index`` of a split at ``size`` (width, height): a pure function of its arguments, the layout independent
    of the size.
    """
    dice = Dice(seed, domain.code, split, index)
    street = _street(domain, dice)
    eye = street.median + (street.road - street.median) * dice.between((0.2, 0.55))
    canvas = Canvas(
        *size, dice.between(domain.camera_height), dice.between(domain.horizon), dice.between(domain.vanish), eye
    )
    return _Builder(canvas, street, domain, dice).build()


def _street(domain: Domain, dice: Dice) -> Street:
    sides = []
    for _ in range(2):
        verge = dice.between(domain.verge_width) if dice.chance(domain.verge) else 0.0
        plots, z = [], 1.5
        while z < 110:
            draw = dice.between((0.0, 1.0))
            kind = (
                "building"
                if draw < domain.plots[0]
                else "park"
                if draw < domain.plots[0] + domain.plots[1]
                else "street"
            )
            length = dice.between((7.0, 11.0)) if kind == "street" else dice.between((9.0, 20.0))
            plots.append(Plot(kind, z, z + length, dice.between(domain.setback), kind == "park" or dice.chance(0.65)))
            z += length
        sides.append(RoadSide(verge, dice.between(domain.sidewalk), tuple(plots)))
    median = dice.between((0.7, 1.4)) if dice.chance(domain.median) else 0.0
    return Street(
        dice.between(domain.road) + median,
        sides[0],
        sides[1],
        median,
        dice.between((7.0, 22.0)) if dice.chance(domain.crossing) else None,
    )


class _Builder:
    """Collects ``(distance, draw)`` pairs and paints them from the far end to the camera."""

    def __init__(self, canvas: Canvas, street: Street, domain: Domain, dice: Dice) -> None:
        self.canvas, self.street, self.domain, self.dice = canvas, street, domain, dice
        self.sun = dice.side() if dice.chance(domain.sun) else 0
        self.queue: list[tuple[float, Draw]] = []
        self.taken: list[tuple[float, float, float, float]] = []
        fine, coarse = noise_tiles()
        self.rough = rolled(coarse, canvas.height, canvas.width, dice) * np.float32(0.45) + rolled(
            fine, canvas.height, canvas.width, dice
        ) * np.float32(0.30)

    def build(self) -> Scene:
        street = self.street
        backdrop.sky(self.canvas, self.domain, self.dice)
        self._skyline()
        shadow = -self.sun * self.dice.between((0.2, 1.3)) * street.road if self.sun else None
        backdrop.ground(self.canvas, street, self.domain, self.dice, shadow)
        for sign in (-1, 1):
            for plot in street.side(sign).plots:
                self._plot(sign, plot)
        self._traffic()
        self._two_wheelers_and_people()
        self._roadside()
        for _, draw in sorted(self.queue, key=lambda entry: -entry[0]):
            draw()
        return Scene(develop(self.canvas, self.domain, self.dice), self.canvas.label)

    def _skyline(self) -> None:
        """Houses and trees at the far end, a few pixels high."""
        canvas, m, dice = self.canvas, self.domain.materials, self.dice
        scale = canvas.pixels_per_metre(120.0)
        x = 0.0
        while x < canvas.width:
            width, green = dice.between((6.0, 26.0)) * scale, dice.chance(0.5)
            top = canvas.horizon - dice.between((3.0, 12.0)) * scale
            if green:
                canvas.ellipse(
                    (x + width / 2, canvas.horizon),
                    width * 0.75,
                    canvas.horizon - top,
                    dice.pick(m.leaves),
                    c.VEGETATION,
                    120.0,
                    rough=self.rough,
                )
            else:
                box = [(x, top), (x + width, top), (x + width, canvas.horizon + 2), (x, canvas.horizon + 2)]
                canvas.polygon(box, scaled(dice.pick(m.facades), 0.9), c.BUILDING, 120.0)
            x += width * 0.8

    def _light(self, sign: int) -> float:
        """Brightness of the fronts on one side: the one that the sun shines on is the one opposite to it."""
        return 1.0 - 0.18 * self.sun * sign if self.sun else 0.92

    def _plot(self, sign: int, plot: Plot) -> None:
        d, m, dice, canvas, street = self.domain, self.domain.materials, self.dice, self.canvas, self.street
        border, light = street.border(sign), self._light(sign)
        if plot.kind == "building":
            storey = dice.between((2.8, 3.3))
            facade = Facade(
                height=0.8
                + storey * (d.storeys[0] + int(dice.between((0.0, 1.0)) * (d.storeys[1] - d.storeys[0] + 1)))
                + 0.6,
                wall=scaled(dice.pick(m.facades), 1 + d.variety * dice.between((-1, 1))),
                roof=dice.pick(m.roofs),
                roof_height=dice.between((0.8, 2.2)) if dice.chance(0.7) else 0.0,
                glass=scaled(m.glass, dice.between((0.7, 1.3))),
                shop=dice.pick(m.awnings) if plot.setback < 1.5 and dice.chance(0.6) else None,
                bay=dice.between((2.0, 3.4)),
                storey=storey,
                seed=dice.offset(),
            )
            self.queue.append(
                (
                    plot.far,
                    partial(
                        backdrop.building,
                        canvas,
                        facade,
                        sign,
                        border + plot.setback,
                        plot.near,
                        plot.far,
                        (light, 0.86),
                    ),
                )
            )
        if plot.kind == "street":
            return
        draw = dice.between((0.0, 1.0))
        open_front = plot.kind == "building" and plot.setback < 1.0
        if not open_front and draw < d.fence + d.wall:
            fence = draw < d.fence
            label, colour = (
                (c.FENCE, dice.pick(m.fences))
                if fence
                else (c.WALL, scaled(dice.pick(m.walls), 1 + d.variety * dice.between((-1, 1))))
            )
            height = dice.between((1.3, 2.1)) if fence else dice.between((1.3, 2.6))
            start, end = plot.near, plot.far - dice.between((0.0, 2.0))
            painted = partial(backdrop.barrier, canvas, label, colour, sign, border + 0.05, (start, end), height, light)
            self.queue.append((end, painted))
        room = (border + 0.9, border + plot.setback - 0.5) if plot.kind == "building" else (border + 1.0, border + 11.0)
        if plot.lawn and room[1] > room[0]:
            for _ in range(dice.count(0.8 if plot.kind == "building" else 2.6)):
                x, z = sign * dice.between(room), dice.between((plot.near, plot.far))
                plant = furniture.tree if plot.kind == "park" and dice.chance(0.55) else furniture.hedge
                self._later(z, partial(plant, canvas, x, z, m, dice, self.rough))

    def _later(self, z: float, draw: Draw) -> None:
        if z > 3.0:
            self.queue.append((z, draw))

    def _distance(self, x: float, near: float, far: float) -> float:
        """A place between ``near`` and ``far`` from which something at ``x`` is within the picture, more often near
        than far.
        """
        near = max(near, abs(x - self.canvas.eye) * 1.45)
        far = max(far, near * 1.2)
        share = self.dice.between((0.0, 1.0))
        return near / (1 - share * (1 - near / far))

    def _free(self, x: float, z: float, half: float, depth: float) -> bool:
        """Claims a rectangle of ground, unless something stands on it."""
        mine = (x - half, x + half, z - depth / 2, z + depth / 2)
        if any(mine[0] < o[1] and o[0] < mine[1] and mine[2] < o[3] and o[2] < mine[3] for o in self.taken):
            return False
        self.taken.append(mine)
        return True

    def _traffic(self) -> None:
        d, m, dice, canvas, road = self.domain, self.domain.materials, self.dice, self.canvas, self.street.road
        # Big vehicles come first, so that the ground they need is still free.
        for draw, mean, length, half in (
            (vehicles.bus, d.buses, 10.5, 1.3),
            (vehicles.truck, d.trucks, 8.0, 1.25),
            (vehicles.car, d.driving, 4.6, 0.95),
        ):
            for _ in range(dice.count(mean)):
                side = dice.side()
                x = side * ((road + self.street.median) * 0.5 + dice.between((-0.3, 0.3)))
                z = length / 2 + self._distance(x, 9.0 if side > 0 else 6.5, 40.0)
                if self._free(x, z, half + 0.2, length + 1.5):
                    frame = vehicles.Frame(x, z, (dice.between((-0.05, 0.05)), float(side)), canvas.eye)
                    self._later(z - length / 2, partial(draw, canvas, frame, m, dice, self.sun))
        for _ in range(dice.count(d.parked)):
            side = dice.side()
            x = side * (road - 0.75)
            z = 2.3 + self._distance(x, 4.0, 35.0)
            if self._free(x, z, 0.95, 5.2):
                frame = vehicles.Frame(x, z, (0.0, 1.0 if side > 0 or dice.chance(0.3) else -1.0), canvas.eye)
                self._later(z - 2.3, partial(vehicles.car, canvas, frame, m, dice, self.sun))

    def _heading(self, straight: float) -> tuple[float, float]:
        """A unit vector of the ground; ``straight`` is the chance that it runs along the street. Half-angle form, so no
        sine.
        """
        t = (
            self.dice.between((-0.12, 0.12))
            if self.dice.chance(straight)
            else self.dice.between((0.4, 2.2)) * self.dice.side()
        )
        return 2 * t / (1 + t * t), (1 - t * t) / (1 + t * t) * self.dice.side()

    def _two_wheelers_and_people(self) -> None:
        d, dice, street = self.domain, self.dice, self.street
        for draw, mean, straight, half in (
            (people.rider, d.riders, 0.4, 0.5),
            (people.motorcycle, d.motorcycles, 0.1, 0.6),
            (people.bicycle, d.bicycles, 0.1, 0.6),
            (people.person, d.persons, 0.5, 0.3),
        ):
            for _ in range(dice.count(mean)):
                side = dice.side()
                curb, wide = street.road + street.side(side).verge, street.side(side).sidewalk
                on_road = draw is people.rider or (draw is people.motorcycle and dice.chance(0.5))
                x = side * (
                    street.road - dice.between((0.5, 1.6))
                    if on_road
                    else curb + dice.between((0.4, max(wide - 0.3, 0.5)))
                )
                z = self._distance(x, 4.2, 13.0)
                if draw is people.person and street.crossing is not None and dice.chance(0.3):
                    x, z = dice.between((-street.road, street.road)), street.crossing + dice.between((0.2, 2.2))
                if self._free(x, z, half, 2 * half):
                    frame = vehicles.Frame(x, z, self._heading(straight), self.canvas.eye)
                    self._later(z, partial(draw, self.canvas, frame, d.materials, dice))

    def _roadside(self) -> None:
        d, dice, street = self.domain, self.dice, self.street
        for draw, mean, far in (
            (furniture.traffic_light, d.lights, 16.0),
            (furniture.sign, d.signs, 14.0),
            (furniture.lamp, d.lamps, 20.0),
        ):
            for _ in range(dice.count(mean)):
                side = dice.side()
                x = side * (street.road + dice.between((0.4, 0.8)))
                z = self._distance(x, 5.5, far)
                if self._free(x, z, 0.3, 1.2):
                    self._later(z, partial(draw, self.canvas, x, z, d.materials, dice))
        for _ in range(dice.count(d.trees)):
            side = dice.side()
            x = side * (street.road + 0.6 + dice.between((0.2, 0.9)) * max(street.side(side).verge, 1.0))
            z = self._distance(x, 8.0, 40.0)
            if self._free(x, z, 0.5, 2.5):
                self._later(z, partial(furniture.tree, self.canvas, x, z, d.materials, dice, self.rough))
