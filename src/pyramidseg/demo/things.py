"""Buildings, trees and people of the synthetic scenes; each draws itself, with random looks, on a canvas."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pyramidseg.demo.canvas import Canvas, Floats, Rgb, rectangles, sample_noise

BUILDING, TREE, CAR, BUS, PERSON = 3, 4, 5, 6, 7

LAMPLIGHT = np.array((255.0, 214.0, 140.0))
PLASTER = ((226, 212, 184), (214, 170, 110), (176, 92, 72), (196, 132, 104), (168, 172, 176), (150, 178, 196))
LEAVES = ((118, 160, 66), (76, 128, 62), (150, 158, 70), (92, 138, 100), (206, 142, 52), (190, 92, 54), (212, 160, 172))


@dataclass(frozen=True, kw_only=True)
class Thing:
    """Something that stands on the ground; `u` and `v` are its extent across and along the street in metres."""

    u: tuple[float, float]
    v: tuple[float, float]
    height_m: float

    def footprint(self) -> Floats:
        """(4, 2) u and v of the ground that it covers."""
        return rectangles(*self.u, *self.v).reshape(4, 2)

    def middle(self, up: float = 0.0) -> Floats:
        """(3,) street point in its middle."""
        return np.array([sum(self.u) / 2, sum(self.v) / 2, up])

    @property
    def distance_m(self) -> float:
        """Distance from the camera to the nearest point of the footprint."""
        return math.hypot(*(max(low, -high, 0.0) for low, high in (self.u, self.v)))

    def draw(self, canvas: Canvas, rng: np.random.Generator) -> None:
        """Paint it on image and labels."""
        raise NotImplementedError


def around(middle: float, half: float) -> tuple[float, float]:
    """The interval around a middle."""
    return middle - half, middle + half


def any_color(rng: np.random.Generator, *, low: float = 35, high: float = 235, saturation: float = 0.6) -> Floats:
    """A colour of any hue; half of them are nearly gray, as paint and plaster are."""
    gray, vivid, *tint = rng.random(5)
    tone = (np.array(tint) - np.mean(tint)) * (1.5 * saturation if vivid < 0.5 else 0.24)
    return np.asarray(np.clip((low + (high - low) * gray) * (1 + tone), 8, 250))


class Building(Thing):
    """A box of plaster, brick or glass with rows of windows, doors or shops, and a flat roof."""

    def draw(self, canvas: Canvas, rng: np.random.Generator) -> None:
        color = rng.choice(PLASTER) * rng.uniform(0.55, 1.05) * rng.uniform(0.9, 1.1, 3)
        if rng.random() < 0.25:
            color = any_color(rng, low=90, high=230)
        glass, pane = rng.uniform((90, 115, 130), (160, 195, 225)), rng.uniform((0.38, 0.42), (0.62, 0.60))
        if self.height_m > 12 and rng.random() < 0.4:
            color, pane = glass * rng.uniform(0.8, 1.3), rng.uniform((0.80, 0.62), (0.88, 0.70))
        sign, shop, (bay_m, storey_m) = any_color(rng), rng.random() < 0.5, rng.uniform((2.3, 2.9), (3.9, 3.6))
        (u0, u1), (v0, v1) = self.u, self.v
        for start, end, normal in (
            ((u0, v1), (u0, v0), (-1, 0)),
            ((u1, v0), (u1, v1), (1, 0)),
            ((u0, v0), (u1, v0), (0, -1)),
            ((u1, v1), (u0, v1), (0, 1)),
        ):
            if np.dot(start, normal) < -0.05:  # the wall faces the camera
                wall = Wall(canvas, np.array(start), np.array(end), self.height_m, canvas.light.shade(normal), color)
                wall.fill(0, wall.length_m, 0, self.height_m, color * wall.shade, label=BUILDING)
                wall.draw_windows(bay_m, storey_m, pane, glass, rng)
                wall.draw_ground_floor(bay_m, 0.8 * storey_m, glass, sign, shop=shop)


@dataclass(frozen=True)
class Wall:
    """A wall of a building from one (u, v) place to another; `shade` is its brightness."""

    canvas: Canvas
    start: Floats
    end: Floats
    height_m: float
    shade: float
    color: Floats

    @property
    def length_m(self) -> float:
        return math.dist(self.start, self.end)

    def fill(
        self, left: ArrayLike, right: ArrayLike, low: ArrayLike, high: ArrayLike, color: Rgb, label: int | None = None
    ) -> None:
        """Paint rectangles, given by positions along the wall and heights."""
        flat = rectangles(left, right, low, high)
        street = self.start + flat[..., :1] * (self.end - self.start) / self.length_m
        self.canvas.fill(np.concatenate([street, flat[..., 1:]], -1), color, label=label)

    def bays(self, bay_m: float) -> tuple[Floats, float]:
        """Middles and half width of the bays."""
        count = max(int(self.length_m / bay_m), 1)
        return np.arange(0.5, count) * self.length_m / count, self.length_m / count / 2

    def draw_windows(
        self, bay_m: float, storey_m: float, pane: Floats, glass: Floats, rng: np.random.Generator
    ) -> None:
        """Windows in rows and columns, ledges between the storeys, and a cornice."""
        bays, half_bay = self.bays(bay_m)
        ground, lamps, paint = storey_m * 1.15, self.canvas.light.lamps, self.color * self.shade
        floors = max(int((self.height_m - ground - 0.4) / storey_m), 1)
        x, z = (at.ravel() for at in np.meshgrid(bays, ground + np.arange(0.22, floors) * storey_m))
        (half, tall), frame = pane * (half_bay, storey_m), paint * 0.45 + 118 * self.shade
        self.fill(x - half - 0.12, x + half + 0.12, z - 0.12, z + tall + 0.12, frame)
        room = rng.choice(3, len(x), p=(0.45, 0.33, 0.22))
        dark, mirror = (glass * tone * (1 if lamps else self.shade) for tone in (0.45, 0.9))
        for kind, color in enumerate((dark, mirror, LAMPLIGHT if lamps else mirror * 0.55 + 100 * self.shade)):
            x_in, z_in = x[room == kind], z[room == kind]
            self.fill(x_in - half, x_in + half, z_in, z_in + tall, color)
            self.fill(x_in - half, x_in + half, z_in, z_in + tall * 0.45, color * 0.78)
        self.fill(x - 0.04, x + 0.04, z, z + tall, frame)
        ledges = ground + np.arange(floors + 1) * storey_m - 0.1
        self.fill(0, self.length_m, ledges, ledges + 0.16, paint * 0.78)
        self.fill(0, self.length_m, self.height_m - 0.45, self.height_m, paint * 0.7 + 20)

    def draw_ground_floor(self, bay_m: float, top_m: float, glass: Floats, sign: Floats, *, shop: bool) -> None:
        """A plinth, a door in every third bay, and shop windows under signs or ordinary windows."""
        bays, half_bay = self.bays(bay_m)
        half, glazed = (0.84 * half_bay, bays) if shop else (0.44 * half_bay, bays[np.arange(len(bays)) % 3 > 0])
        self.fill(0, self.length_m, 0, 0.5, self.color * self.shade * 0.6)
        inside = LAMPLIGHT * 0.92 if self.canvas.light.lamps else glass * (0.4 * self.shade)
        self.fill(glazed - half, glazed + half, 0.6 if shop else 1.0, top_m, inside)
        self.fill(bays[::3] - 0.6, bays[::3] + 0.6, 0, 2.2, sign * (0.45 * self.shade))
        if shop:
            self.fill(bays - half, bays + half, top_m, top_m + 0.7, sign * self.shade)


@dataclass(frozen=True, kw_only=True)
class Tree(Thing):
    """A trunk under a ragged crown of leaves: green, in autumn or in blossom; `cone` makes it a conifer."""

    crown_m: tuple[float, float]
    cone: bool

    def draw(self, canvas: Canvas, rng: np.random.Generator) -> None:
        camera, light = canvas.camera, canvas.light
        leaf = rng.choice(LEAVES, p=(0.32, 0.28, 0.12, 0.11, 0.07, 0.05, 0.05)) * rng.uniform(0.75, 1.25)
        bark, offset = np.array((1.0, 0.82, 0.65)) * rng.uniform(50, 100), rng.uniform(0, 512, 2)
        view = camera.view(np.array([self.middle(), self.middle(self.height_m)]))
        depth = float(view[0, 2])
        if depth < 2:
            return
        (x, foot), (_, top) = camera.pixels(view)
        half, tall = np.array((self.crown_m[0] / 2, self.crown_m[1])) * camera.focal_px / depth
        girth, fork = max(0.03 * self.height_m * camera.focal_px / depth, 0.6), top + 0.6 * tall
        trunk = np.array([[x - girth, foot], [x - 0.6 * girth, fork], [x + 0.6 * girth, fork], [x + girth, foot]])
        canvas.paint(trunk[None], light.hazed(bark, depth), label=TREE)
        rows = np.arange(*np.clip((top - 0.1 * tall, top + 1.1 * tall + 1), 0, camera.height).astype(int))
        columns = np.arange(*np.clip((x - 1.2 * half, x + 1.2 * half + 1), 0, camera.width).astype(int))
        if not len(rows) or not len(columns):
            return
        right, down = columns - x, rows[:, None] - top
        clumps = sample_noise(0.9, right * 60 / tall + offset[0], down * 60 / tall + offset[1])
        fine = max(110 / tall, 0.45)
        leaves = sample_noise(0.3, right * fine + offset[0], down * fine + offset[1])
        side, down = right / half, down / tall
        if self.cone:
            tier = np.mod(down * 5, 1.0)
            reach = 0.12 + 0.75 * down + 0.16 * tier - (clumps - 0.5) * 0.35
            inside, bright = np.abs(side) + 9 * np.maximum(down - 1, 0) < reach, 0.9 - 0.35 * tier
        else:
            inside, bright = side**2 + (2 * down - 1) ** 2 < (1.16 - 0.4 * clumps) ** 2, 0.98 - 0.55 * down
        sun = float(light.sun @ (math.cos(camera.yaw), -math.sin(camera.yaw))) * light.sun_strength
        tone = (bright + 0.22 * sun * side) * (0.25 + 1.15 * clumps) + 0.75 * (leaves - 0.5)
        color = light.hazed(np.clip(tone[inside], 0.12, 1.5)[:, None] * leaf, depth)
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        canvas.image[window][inside] = color
        canvas.labels[window][inside] = TREE


def new_tree(u: float, v: float, rng: np.random.Generator) -> Tree:
    """A broad or slender tree, or a conifer."""
    across, tall, cone = ((0.72, 0.72, False), (0.36, 0.88, False), (0.5, 0.9, True))[
        rng.choice(3, p=(0.62, 0.18, 0.2))
    ]
    height = rng.uniform(4.5, 9.5)
    width = height * across * rng.uniform(0.85, 1.2)
    extent = {"u": around(u, 0.4 * width), "v": around(v, 0.4 * width)}
    return Tree(**extent, height_m=height, crown_m=(width, height * tall), cone=cone)


class Person(Thing):
    """An upright figure with head, coat or shirt, arms, two legs, and sometimes a bag."""

    def draw(self, canvas: Canvas, rng: np.random.Generator) -> None:
        girth, stride = rng.uniform((1.0, 0.0), (1.3, 0.7))
        top, bottom = any_color(rng, saturation=0.7), any_color(rng, low=25, high=150, saturation=0.5)
        skin = np.multiply((232, 184, 150), rng.uniform(0.42, 1.05))
        hair = np.multiply((1, 0.8, 0.6), rng.uniform(20, 170))
        view = canvas.camera.view(self.middle())
        foot, depth = canvas.camera.pixels(view), float(view[2])
        scale = np.array((girth, -1.0)) * self.height_m * canvas.camera.focal_px / depth

        def part(points: ArrayLike, color: Rgb) -> None:
            canvas.paint(foot + np.asarray(points)[None] * scale, canvas.light.hazed(color, depth), label=PERSON)

        def limb(x: float, low: float, half: float, to_x: float, high: float, to_half: float, color: Rgb) -> None:
            part([(x - half, low), (x + half, low), (to_x + to_half, high), (to_x - to_half, high)], color)

        for side, shade in ((-1, 0.75), (1, 1.0)):
            toe, hand = side * (0.05 + 0.10 * stride), side * (0.15 + 0.05 * stride)
            limb(toe + 0.01, 0, 0.06, toe, 0.05, 0.05, (35, 32, 32))
            limb(toe, 0.04, 0.045, side * 0.05, 0.50, 0.07, bottom * shade)
            limb(hand, 0.43, 0.025, hand, 0.47, 0.025, skin)
            limb(hand, 0.46, 0.027, side * 0.122, 0.795, 0.023, top * 0.72)
        half = np.array([(0.10, rng.choice((0.30, 0.46))), (0.115, 0.62), (0.135, 0.78), (0.07, 0.835)])
        part([*half, *(half * (-1, 1))[::-1]], top)
        if rng.random() < 0.35:
            limb(0.135, 0.42, 0.055, 0.135, 0.58, 0.045, bottom * 0.5 + 40)
        limb(0, 0.82, 0.03, 0.02 * stride, 0.88, 0.03, skin * 0.85)
        angle = np.arange(12) * (math.pi / 6)
        for up, size, color in ((0.925, 0.068, hair), (0.908, 0.052, skin)):
            part(np.column_stack([0.03 * stride + size * np.cos(angle), up + 1.15 * size * np.sin(angle)]), color)
