"""Houses of the made scenes: boxes with facades in perspective."""

import math
from dataclasses import dataclass

import numpy as np

from pyramidseg.demo.canvas import Canvas, Floats
from pyramidseg.demo.shapes import BUILDING, any_color, rectangle


@dataclass(frozen=True)
class Wall:
    """An upright plane between two (u, v) places."""

    start: Floats
    end: Floats

    @property
    def length_m(self) -> float:
        return float(np.hypot(*(self.end - self.start)))

    @property
    def distance_m(self) -> float:
        """From the camera to its nearer end."""
        return float(min(np.hypot(*self.start), np.hypot(*self.end)))

    def patches(self, left: Floats | float, right: Floats | float, low: Floats | float, high: Floats | float) -> Floats:
        """(N, 4, 3) rectangles on the wall, from positions along it and heights."""
        corners = np.empty((np.broadcast(left, low, high).size, 4, 3))
        for column, side, up in ((0, left, low), (1, right, low), (2, right, high), (3, left, high)):
            corners[:, column, 0] = side
            corners[:, column, 2] = up
        corners[..., :2] = self.start + (self.end - self.start) * (corners[..., :1] / self.length_m)
        return corners


@dataclass(frozen=True)
class Building:
    """A house: walls with rows of windows, a ground floor with doors or shops, a flat or pitched roof.

    `u` and `v` are its extent, `pane` the share of bay and storey that a window takes, `free` whether nothing adjoins
    its ends at the lower and at the higher v: the walls between neighbours have no windows.
    """

    u: tuple[float, float]
    v: tuple[float, float]
    height_m: float
    storey_m: float
    bay_m: float
    pane: tuple[float, float]
    wall: Floats
    glass: Floats
    pitched: bool
    free: tuple[bool, bool]
    shop: bool

    def footprint(self) -> Floats:
        return rectangle(*self.u, *self.v)

    def draw(self, canvas: Canvas, rng: np.random.Generator) -> None:
        sign, roof = any_color(rng), any_color(rng, low=60, high=130, saturation=0.5)
        lit = rng.random(64)
        if self.pitched:
            self._draw_roof(canvas, roof)
        (u0, u1), (v0, v1) = self.u, self.v
        for start, end, normal, windows in (
            ((u0, v1), (u0, v0), (-1, 0), True),
            ((u1, v0), (u1, v1), (1, 0), True),
            ((u0, v0), (u1, v0), (0, -1), self.free[0]),
            ((u1, v1), (u0, v1), (0, 1), self.free[1]),
        ):
            if -(start[0] * normal[0] + start[1] * normal[1]) > 0.05:  # the camera at (0, 0) stands before this wall
                shade = canvas.light.shade(*normal)
                wall = Wall(np.array(start), np.array(end))
                outline = wall.patches(0, wall.length_m, 0, self.height_m)[0]
                canvas.fill(outline, self.wall * shade, label=BUILDING)
                if windows and canvas.spans_px(outline) > 2.5:
                    self._draw_facade(canvas, wall, shade, sign, lit)

    def _draw_roof(self, canvas: Canvas, color: Floats) -> None:
        (u0, u1), (v0, v1) = self.u, self.v
        low, high, ridge = self.height_m, self.height_m + 0.32 * (u1 - u0), (u0 + u1) / 2
        for edge in (u0, u1):
            slope = np.array([[edge, v0, low], [edge, v1, low], [ridge, v1, high], [ridge, v0, high]])
            outwards = math.copysign(1.0, edge - ridge)
            if canvas.camera.eye_m - low > 0.64 * outwards * edge:
                canvas.fill(slope, color * canvas.light.shade(0.7 * outwards, 0), label=BUILDING)
        for end, side in ((v0, -1), (v1, 1)):
            gable = np.array([[u0, end, low], [u1, end, low], [ridge, end, high]])
            if -end * side > 0:
                canvas.fill(gable, self.wall * canvas.light.shade(0, side), label=BUILDING)

    def _draw_facade(self, canvas: Canvas, wall: Wall, shade: float, sign: Floats, lit: Floats) -> None:
        """Windows in rows and columns, ledges between the storeys, a cornice, and the ground floor."""
        color, lamps = self.wall * shade, canvas.light.lamps
        ground_m = self.storey_m * 1.15
        columns = max(int(wall.length_m / self.bay_m), 1)
        bay = wall.length_m / columns
        floors = max(int((self.height_m - ground_m - 0.4) / self.storey_m), 1)
        middles: Floats = np.arange(0.5, columns) * bay
        sills = ground_m + np.arange(0.22, floors) * self.storey_m
        x, z = (grid.ravel() for grid in np.meshgrid(middles, sills))
        half, tall, frame = self.pane[0] * bay / 2, self.pane[1] * self.storey_m, 0.12
        canvas.fill(
            wall.patches(x - half - frame, x + half + frame, z - frame, z + tall + frame), color * 0.45 + 118 * shade
        )
        # Three kinds of panes: dark rooms, mirrors of the sky, and lamps or curtains.
        kinds = lit[np.arange(len(x)) * 5 % len(lit)]
        warm = np.array((255.0, 214.0, 140.0)) if lamps else np.minimum(self.glass * 0.5 + 100, 235)
        for low, high, pane in ((0.0, 0.45, self.glass * 0.45), (0.45, 0.78, self.glass * 0.9), (0.78, 1.0, warm)):
            x_kind, z_kind = x[(kinds >= low) & (kinds < high)], z[(kinds >= low) & (kinds < high)]
            pane = pane * (1.0 if lamps else shade)
            canvas.fill(wall.patches(x_kind - half, x_kind + half, z_kind, z_kind + tall), pane)
            canvas.fill(wall.patches(x_kind - half, x_kind + half, z_kind, z_kind + tall * 0.45), pane * 0.78)
        if canvas.size_px(half, wall.distance_m) > 9:
            canvas.fill(wall.patches(x - 0.04, x + 0.04, z, z + tall), color * 0.45 + 118 * shade)
        ledges: Floats = ground_m + np.arange(0.0, floors + 1) * self.storey_m - 0.1
        canvas.fill(wall.patches(0, wall.length_m, ledges, ledges + 0.16), color * 0.78)
        canvas.fill(wall.patches(0, wall.length_m, self.height_m - 0.45, self.height_m), color * 0.7 + 20)
        self._draw_ground_floor(canvas, wall, middles, shade, sign)

    def _draw_ground_floor(self, canvas: Canvas, wall: Wall, middles: Floats, shade: float, sign: Floats) -> None:
        """A plinth, a door in every third bay, and shop windows under signs or ordinary windows."""
        top, reach = self.storey_m * 0.8, middles[0] * (0.84 if self.shop else 0.44)
        canvas.fill(wall.patches(0, wall.length_m, 0, 0.5), self.wall * (0.6 * shade))
        glow = np.array((230.0, 202.0, 148.0)) if canvas.light.lamps else self.glass * (0.4 * shade)
        doors, others = middles[::3], middles[np.arange(len(middles)) % 3 > 0]
        glazed = middles if self.shop else others
        canvas.fill(wall.patches(glazed - reach, glazed + reach, 0.6 if self.shop else 1.0, top), glow)
        canvas.fill(wall.patches(doors - 0.6, doors + 0.6, 0, 2.2), sign * (0.45 * shade))
        if self.shop:
            canvas.fill(wall.patches(middles - reach, middles + reach, top, top + 0.7), sign * shade)


def new_building(
    u: tuple[float, float], v: tuple[float, float], height_m: float, free: tuple[bool, bool], rng: np.random.Generator
) -> Building:
    """A building of random style: plaster or brick of any colour, or glass the colour of the sky."""
    tones = np.array(
        [
            (226, 212, 184),
            (214, 170, 110),
            (176, 92, 72),
            (196, 132, 104),
            (168, 172, 176),
            (150, 178, 196),
            (158, 176, 140),
            (238, 234, 226),
        ]
    )
    plaster = tones[rng.integers(len(tones))] * rng.uniform(0.55, 1.05) * rng.uniform(0.9, 1.1, 3)
    if rng.random() < 0.2:
        plaster = any_color(rng, low=90, high=230)
    storey_m = rng.uniform(2.9, 3.6)
    glassy = height_m > 12 and rng.random() < 0.4
    glass = rng.uniform((90, 115, 130), (160, 195, 225))
    return Building(
        u,
        v,
        max(height_m, 2.15 * storey_m + 0.6),
        storey_m,
        bay_m=rng.uniform(2.3, 3.9),
        pane=(rng.uniform(0.8, 0.88), rng.uniform(0.62, 0.7))
        if glassy
        else (rng.uniform(0.38, 0.62), rng.uniform(0.42, 0.6)),
        wall=glass * rng.uniform(0.8, 1.3) if glassy else plaster,
        glass=glass,
        pitched=bool(height_m < 11 and rng.random() < 0.75),
        free=free,
        shop=bool(rng.random() < 0.5),
    )
