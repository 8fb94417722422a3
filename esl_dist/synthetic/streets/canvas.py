"""A pinhole camera over flat ground and the few things that can be drawn in front of it, farthest first.

World: X metres to the right of the middle of the road, Y metres above the ground, Z metres ahead. The camera stands at
X = eye and looks along Z, so ``x = x_vanish + f (X - eye) / Z`` and ``y = horizon + f (camera_height - Y) / Z`` in
pixels. Everything that decides a pixel is made of additions, multiplications, divisions and comparisons, which IEEE 754
defines to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float, float]
Pixel = tuple[float, float]
Colour = tuple[float, float, float]

NEAR = 0.6
FAR = 150.0
# Points of a unit circle, written out so that no sine is taken.
CIRCLE = (
    (1.0, 0.0),
    (0.809, 0.588),
    (0.309, 0.951),
    (-0.309, 0.951),
    (-0.809, 0.588),
    (-1.0, 0.0),
    (-0.809, -0.588),
    (-0.309, -0.951),
    (0.309, -0.951),
    (0.809, -0.588),
)


def scaled(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


class Canvas:
    """Colour ``[H, W, 3]`` (linear albedo times light, about 0–1), label id ``[H, W]`` and depth ``[H, W]``
    in metres.
    """

    def __init__(
        self, width: int, height: int, camera_height: float, horizon: float, vanish: float, eye: float
    ) -> None:
        self.width, self.height, self.camera_height, self.eye = width, height, camera_height, eye
        self.focal = 0.75 * width
        self.horizon, self.vanish = horizon * height, vanish * width
        self.rgb = np.zeros((height, width, 3), np.float32)
        self.label = np.zeros((height, width), np.uint8)
        self.depth = np.full((height, width), FAR, np.float32)
        self.xs = np.arange(width, dtype=np.float32) + np.float32(0.5)
        self.ys = np.arange(height, dtype=np.float32) + np.float32(0.5)

    def project(self, point: Point) -> Pixel:
        scale = self.focal / max(point[2], NEAR)
        return self.vanish + (point[0] - self.eye) * scale, self.horizon + (self.camera_height - point[1]) * scale

    def pixels_per_metre(self, z: float) -> float:
        return self.focal / max(z, NEAR)

    def box(self, x0: float, x1: float, y0: float, y1: float) -> tuple[slice, slice] | None:
        """The pixels whose centres lie in the rectangle, or None when it misses the image."""
        left, right = max(int(x0 + 0.5) if x0 > 0 else 0, 0), min(int(x1 + 0.5) if x1 > 0 else 0, self.width)
        top, bottom = max(int(y0 + 0.5) if y0 > 0 else 0, 0), min(int(y1 + 0.5) if y1 > 0 else 0, self.height)
        return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None

    def paint(
        self,
        window: tuple[slice, slice],
        mask: NDArray[np.bool_],
        colour: Colour | NDArray[np.float32] | None,
        label: int | None,
        z: float,
    ) -> None:
        """Colour, label and depth under ``mask``; ``colour`` None leaves the colour (something seen through), ``label``
        None leaves label and depth.
        """
        if colour is not None:
            self.rgb[window][mask] = colour
        if label is not None:
            self.label[window][mask] = label
            self.depth[window][mask] = z

    def _inside(self, points: Sequence[Pixel]) -> tuple[tuple[slice, slice], NDArray[np.bool_]] | None:
        px, py = [p[0] for p in points], [p[1] for p in points]
        window = self.box(min(px), max(px), min(py), max(py))
        if window is None:
            return None
        count = len(points)
        edges = [
            (
                py[i] - py[(i + 1) % count],
                px[(i + 1) % count] - px[i],
                px[i] * py[(i + 1) % count] - px[(i + 1) % count] * py[i],
            )
            for i in range(count)
        ]
        area = 0.0
        for edge in edges:  # not sum(): newer Pythons add floats with compensation
            area += edge[2]
        turn = -1.0 if area < 0 else 1.0
        lines = np.array(edges) * turn
        rows = lines[:, 1, None] * self.ys[window[0]] + lines[:, 2, None]
        columns = lines[:, 0, None] * self.xs[window[1]]
        inside: NDArray[np.bool_] = np.all(rows[:, :, None] + columns[:, None, :] >= 0, axis=0)
        return window, inside

    def polygon(self, points: Sequence[Pixel], colour: Colour | None, label: int | None, z: float) -> None:
        """A convex polygon of image points."""
        found = self._inside(points)
        if found is not None:
            self.paint(*found, colour, label, z)

    def shade(self, points: Sequence[Pixel], factor: float) -> None:
        """Darkens what lies under a convex polygon (a cast shadow)."""
        found = self._inside(points)
        if found is not None:
            window, mask = found
            self.rgb[window][mask] *= np.float32(factor)

    def face(self, points: Sequence[Point], colour: Colour | None, label: int | None, z: float) -> None:
        """A convex planar polygon of world points, seen from either side."""
        self.polygon([self.project(p) for p in points], colour, label, z)

    def ellipse(
        self,
        centre: Pixel,
        rx: float,
        ry: float,
        colour: Colour | None,
        label: int | None,
        z: float,
        rough: NDArray[np.float32] | None = None,
        inner: float = 0.0,
    ) -> None:
        """An upright ellipse; ``rough`` ``[H, W]`` frays its rim, ``inner`` (squared radius share) cuts a hole."""
        rx, ry = max(rx, 0.6), max(ry, 0.6)
        window = self.box(centre[0] - 1.3 * rx, centre[0] + 1.3 * rx, centre[1] - 1.3 * ry, centre[1] + 1.3 * ry)
        if window is None:
            return
        across = (self.xs[window[1]] - np.float32(centre[0])) * np.float32(1 / rx)
        down = (self.ys[window[0]] - np.float32(centre[1])) * np.float32(1 / ry)
        distance = (down * down)[:, None] + (across * across)[None]
        if rough is not None:
            distance = distance + rough[window]
        mask = distance < 1
        if inner:
            mask &= distance > inner
        self.paint(window, mask, colour, label, z)

    def limb(
        self, start: Point, end: Point, radius: float, colour: Colour, label: int, z: float, least: float = 0.5
    ) -> None:
        """A thick straight stroke between two world points, ``radius`` metres and at least ``least`` pixels to each
        side.
        """
        (x0, y0), (x1, y1) = self.project(start), self.project(end)
        half = max(radius * self.pixels_per_metre(z), least)
        dx, dy = x1 - x0, y1 - y0
        length = math.sqrt(dx * dx + dy * dy)
        if length < 1e-6:
            dx, dy, length = 0.0, 1.0, 1.0
        ox, oy = -dy / length * half, dx / length * half
        self.polygon([(x0 + ox, y0 + oy), (x1 + ox, y1 + oy), (x1 - ox, y1 - oy), (x0 - ox, y0 - oy)], colour, label, z)

    def disc(
        self,
        centre: Point,
        along: tuple[float, float],
        radius: float,
        colour: Colour | None,
        label: int | None,
        z: float,
    ) -> None:
        """A circle in the vertical plane that holds the ground direction ``along`` (X, Z): a wheel, a round sign."""
        self.face(
            [
                (centre[0] + c * radius * along[0], centre[1] + s * radius, centre[2] + c * radius * along[1])
                for c, s in CIRCLE
            ],
            colour,
            label,
            z,
        )
