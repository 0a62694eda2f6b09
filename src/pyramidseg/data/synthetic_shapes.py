"""What stands in the made scenes: houses, trees, cars, buses and people, each of which draws itself on a canvas."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pyramidseg.data.synthetic_canvas import Canvas, Floats, Rgb, sample_noise

BUILDING, TREE, CAR, BUS, PERSON = 3, 4, 5, 6, 7


class Thing(Protocol):
    """Anything that stands on the ground."""

    @property
    def height_m(self) -> float: ...

    def footprint(self) -> Floats:
        """(corners, 2) u and v of the ground it covers."""
        ...

    def draw(self, canvas: Canvas, rng: np.random.Generator) -> None: ...


def any_color(rng: np.random.Generator, *, low: float = 35, high: float = 235, saturation: float = 0.6) -> Floats:
    """A colour of any hue: half of them nearly grey, as paint and plaster are."""
    grey = rng.uniform(low, high)
    tint = rng.uniform(-1, 1, 3) * rng.choice([0.12, saturation])
    return np.clip(grey * (1 + tint - tint.mean()), 8, 250)


def rectangle(low_u: float, high_u: float, low_v: float, high_v: float) -> Floats:
    """(4, 2) corners in order."""
    return np.array([[low_u, low_v], [high_u, low_v], [high_u, high_v], [low_u, high_v]])


@dataclass(frozen=True)
class Building:
    """A house: walls with rows of windows, a ground floor with doors or shops, a flat or pitched roof."""

    u: tuple[float, float]
    v: tuple[float, float]
    height_m: float
    storey_m: float
    bay_m: float
    pane: tuple[float, float]
    wall: Floats
    glass: Floats
    pitched: bool
    shop: bool

    def footprint(self) -> Floats:
        return rectangle(*self.u, *self.v)

    def draw(self, canvas: Canvas, rng: np.random.Generator) -> None:
        awning, roof, lit = any_color(rng, saturation=0.9), any_color(rng, low=60, high=130, saturation=0.5), rng.random(64)
        if self.pitched:
            self._draw_roof(canvas, roof)
        (u0, u1), (v0, v1) = self.u, self.v
        for start, end, normal in (
            ((u0, v1), (u0, v0), (-1, 0)),
            ((u1, v0), (u1, v1), (1, 0)),
            ((u0, v0), (u1, v0), (0, -1)),
            ((u1, v1), (u0, v1), (0, 1)),
        ):
            if -(start[0] * normal[0] + start[1] * normal[1]) > 0.05:  # the camera at (0, 0) stands before this wall
                self._draw_wall(canvas, np.array(start), np.array(end), canvas.light.shade(*normal), awning, lit)

    def _draw_roof(self, canvas: Canvas, color: Floats) -> None:
        (u0, u1), (v0, v1) = self.u, self.v
        low, high, ridge = self.height_m, self.height_m + 0.32 * (u1 - u0), (u0 + u1) / 2
        for edge in (u0, u1):
            slope = np.array([[edge, v0, low], [edge, v1, low], [ridge, v1, high], [ridge, v0, high]])
            canvas.fill(slope, color * canvas.light.shade(math.copysign(0.7, edge - ridge), 0), label=BUILDING)
        for end, side in ((v0, -1), (v1, 1)):
            gable = np.array([[u0, end, low], [u1, end, low], [ridge, end, high]])
            if -end * side > 0:
                canvas.fill(gable, self.wall * canvas.light.shade(0, side), label=BUILDING)

    def _draw_wall(
        self, canvas: Canvas, start: Floats, end: Floats, shade: float, awning: Floats, lit: Floats
    ) -> None:
        length = float(np.hypot(*(end - start)))

        def patches(left: Floats, right: Floats, low: Floats, high: Floats) -> Floats:
            """(N, 4, 3) upright rectangles on the wall, from positions along it and heights."""
            along = np.stack([left, right, right, left], -1)[..., None] / length
            up = np.stack([low, low, high, high], -1)[..., None]
            return np.concatenate([start + (end - start) * along, up], -1).reshape(-1, 4, 3)

        def patch(left: float, right: float, low: float, high: float) -> Floats:
            return patches(*(np.array([value]) for value in (left, right, low, high)))[0]

        wall = self.wall * shade
        canvas.fill(patch(0, length, 0, self.height_m), wall, label=BUILDING)
        ground_m = self.storey_m * 1.15
        columns = max(int(length / self.bay_m), 1)
        bay = length / columns
        floors = max(int((self.height_m - ground_m - 0.4) / self.storey_m), 1)
        middle = (np.arange(columns) + 0.5) * bay
        sill = ground_m + np.arange(floors) * self.storey_m + self.storey_m * 0.22
        x, z = (grid.ravel() for grid in np.meshgrid(middle, sill))
        half, tall = self.pane[0] * bay / 2, self.pane[1] * self.storey_m
        frame = 0.12 + 0.0 * x
        canvas.fill(patches(x - half - frame, x + half + frame, z - frame, z + tall + frame), wall * 0.45 + 118 * shade)
        # Three kinds of panes: dark rooms, the sky mirrored, and lamps or curtains.
        kind = np.resize(lit, len(x) + 7)[(np.arange(len(x)) * 5) % 61 % (len(x) + 7)]
        lamp = np.array((255, 214, 140)) if canvas.light.lamps else np.minimum(self.glass * 0.5 + 100, 235)
        for low, high, color in ((0.0, 0.45, self.glass * 0.45), (0.45, 0.78, self.glass * 0.9), (0.78, 1.01, lamp)):
            some = (kind >= low) & (kind < high)
            panes = patches(x[some] - half, x[some] + half, z[some], z[some] + tall)
            canvas.fill(panes, color * (1 if canvas.light.lamps else shade))
            canvas.fill(
                patches(x[some] - half, x[some] + half, z[some], z[some] + tall * 0.45), color * 0.78 * min(shade, 1)
            )
        ledges = ground_m + np.arange(floors + 1) * self.storey_m - 0.1
        canvas.fill(patches(0 * ledges, 0 * ledges + length, ledges, ledges + 0.16), wall * 0.78)
        canvas.fill(patch(0, length, self.height_m - 0.45, self.height_m), wall * 0.7 + 20)
        self._draw_ground_floor(canvas, patches, patch, middle, bay, ground_m, shade, awning)

    def _draw_ground_floor(self, canvas, patches, patch, middle, bay, ground_m, shade, awning) -> None:  # type: ignore[no-untyped-def]
        zero, reach = 0 * middle, bay * (0.42 if self.shop else 0.22)
        canvas.fill(patch(0, middle[-1] + bay / 2, 0, 0.5), self.wall * shade * 0.6)
        window = np.array((255, 225, 165)) * 0.9 if canvas.light.lamps else self.glass * 0.4 * shade
        canvas.fill(patches(middle - reach, middle + reach, zero + (0.6 if self.shop else 1.0), zero + ground_m * 0.7), window)
        doors = middle[::3]
        canvas.fill(patches(doors - 0.55, doors + 0.55, 0 * doors, 0 * doors + 2.2), awning * 0.45 * shade)
        if self.shop:
            canvas.fill(patches(middle - reach, middle + reach, zero + ground_m * 0.7, zero + ground_m * 0.92), awning * shade)


@dataclass(frozen=True)
class Tree:
    """A trunk under a ragged crown of leaves: round, slender, or a conifer's cone."""

    u: float
    v: float
    height_m: float
    crown_m: tuple[float, float]
    cone: bool
    leaf: Floats

    def footprint(self) -> Floats:
        half = self.crown_m[0] * 0.4
        return rectangle(self.u - half, self.u + half, self.v - half, self.v + half)

    def draw(self, canvas: Canvas, rng: np.random.Generator) -> None:
        offset, bark = rng.uniform(0, 512, 2).astype(np.float32), rng.uniform(50, 100)
        view = canvas.camera.view(np.array([[self.u, self.v, 0.0], [self.u, self.v, self.height_m]]))
        depth = float(view[0, 2])
        if depth < 2.0:
            return
        (x, foot), (_, top) = canvas.camera.pixels(view)
        half_w, tall = canvas.size_px(self.crown_m[0] / 2, depth), canvas.size_px(self.crown_m[1], depth)
        girth = max(canvas.size_px(0.06 * self.height_m, depth) / 2, 0.6)
        fork = top + 0.6 * tall
        trunk = np.array([[x - girth, foot], [x - 0.6 * girth, fork], [x + 0.6 * girth, fork], [x + girth, foot]])
        brown = np.array((1.0, 0.82, 0.65)) * bark
        canvas.paint(trunk[None], canvas.light.hazed(brown, depth), label=TREE)
        trunk[2:, 0] = x
        canvas.paint(trunk[None], canvas.light.hazed(brown * 0.7, depth))
        self._draw_crown(canvas, x, top, half_w, tall, depth, offset)

    def _draw_crown(
        self, canvas: Canvas, x: float, top: float, half_w: float, tall: float, depth: float, offset: Floats
    ) -> None:
        rows = np.arange(max(int(top - 0.1 * tall), 0), min(int(top + 1.1 * tall) + 1, canvas.camera.height))
        columns = np.arange(max(int(x - 1.2 * half_w), 0), min(int(x + 1.2 * half_w) + 1, canvas.camera.width))
        if not len(rows) or not len(columns):
            return
        down = ((rows - top) / tall).astype(np.float32)[:, None]
        side = ((columns - x) / half_w).astype(np.float32)[None]
        grid_x, grid_y = np.broadcast_arrays(side * np.float32(half_w / tall), down)
        clumps = sample_noise(0.9, grid_x * 60 + offset[0], grid_y * 60 + offset[1])
        leaves = sample_noise(0.3, grid_x * 110 + offset[1], grid_y * 110 + offset[0])
        if self.cone:
            tiers = np.mod(down * 5, 1.0)
            reach = np.abs(side) - (0.12 + 0.75 * down + 0.16 * tiers) + np.maximum(down - 1, 0) * 9
            inside = reach + (clumps - 0.5) * 0.5 < 0
            light = 0.55 + 0.35 * (1 - tiers)
        else:
            inside = np.hypot(side, 2 * down - 1) + (clumps - 0.5) * 0.75 < 0.96
            light = 0.98 - 0.55 * down
        towards = canvas.light.sun[0] * math.cos(canvas.camera.yaw) - canvas.light.sun[1] * math.sin(canvas.camera.yaw)
        light = light + side * np.float32(0.22 * towards * canvas.light.sun_strength)
        tone = np.clip(light * (0.25 + 1.15 * clumps) + 0.75 * (leaves - 0.5), 0.12, 1.5)
        clear = math.exp(-depth / canvas.light.haze_range_m)
        hue = self.leaf * clear
        color = tone[..., None] * hue.astype(np.float32) + np.array(canvas.light.haze, np.float32) * np.float32(1 - clear)
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        canvas.image[window][inside] = np.minimum(color, 255)[inside]
        canvas.labels[window][inside] = TREE


@dataclass(frozen=True)
class Person:
    """Somebody upright: head, coat or shirt, arms, two legs, sometimes a bag."""

    u: float
    v: float
    height_m: float
    stride: float
    top: Floats
    bottom: Floats
    skin: Floats
    hair: Floats
    coat: bool
    bag: bool

    def footprint(self) -> Floats:
        return rectangle(self.u - 0.25, self.u + 0.25, self.v - 0.25, self.v + 0.25)

    def draw(self, canvas: Canvas, rng: np.random.Generator) -> None:
        view = canvas.camera.view(np.array([self.u, self.v, 0.0]))
        depth = float(view[2])
        foot = canvas.camera.pixels(view)
        scale = canvas.size_px(self.height_m, depth)

        def part(points: list[tuple[float, float]], color: Rgb) -> None:
            shape = foot + np.array(points) * (scale, -scale)
            canvas.paint(shape[None], canvas.light.hazed(color, depth), label=PERSON)

        def disc(x: float, y: float, across: float, tall: float, color: Rgb) -> None:
            angle = np.arange(12) * (math.pi / 6)
            part([(x + across * math.cos(a), y + tall * math.sin(a)) for a in angle], color)

        s, lean = self.stride, 0.03 * self.stride
        for side, shade in ((-1, 0.75), (1, 1.0)):
            toe = side * (0.05 + 0.10 * s)
            part([(toe - 0.05, 0.0), (toe + 0.07, 0.0), (toe + 0.05, 0.05), (toe - 0.05, 0.05)], (35, 32, 32))
            part(
                [(toe - 0.045, 0.04), (toe + 0.045, 0.04), (side * 0.05 + 0.07, 0.50), (side * 0.05 - 0.07, 0.50)],
                self.bottom * shade,
            )
        hem = 0.30 if self.coat else 0.46
        arm = self.top * 0.72
        for side in (-1, 1):
            hand = side * (0.15 + 0.05 * s)
            disc(hand, 0.45, 0.025, 0.03, self.skin)
            part([(side * 0.10, 0.80), (side * 0.145, 0.79), (hand + side * 0.025, 0.46), (hand - side * 0.03, 0.46)], arm)
        part(
            [(-0.10, hem), (0.10, hem), (0.115, 0.62), (0.135, 0.78), (0.07, 0.835), (-0.07, 0.835), (-0.135, 0.78), (-0.115, 0.62)],
            self.top,
        )
        part([(0.03, hem), (0.10, hem), (0.115, 0.62), (0.135, 0.78), (0.05, 0.80)], self.top * 0.85)
        if self.bag:
            part([(0.08, 0.42), (0.19, 0.42), (0.18, 0.58), (0.09, 0.58)], self.bottom * 0.5 + 40)
        part([(-0.03, 0.82), (0.03, 0.82), (0.03 + lean, 0.88), (-0.03 + lean, 0.88)], self.skin * 0.85)
        disc(lean, 0.925, 0.062, 0.075, self.hair)
        disc(lean + 0.012, 0.908, 0.048, 0.056, self.skin)


def new_person(u: float, v: float, rng: np.random.Generator) -> Person:
    """A person of random looks."""
    return Person(
        u,
        v,
        height_m=rng.uniform(1.62, 1.95),
        stride=rng.uniform(0.0, 1.0),
        top=any_color(rng, saturation=0.9),
        bottom=any_color(rng, low=25, high=150, saturation=0.5),
        skin=np.array((232.0, 184.0, 150.0)) * rng.uniform(0.42, 1.05),
        hair=np.array((1.0, 0.8, 0.6)) * rng.uniform(20, 170),
        coat=bool(rng.random() < 0.4),
        bag=bool(rng.random() < 0.35),
    )


def new_tree(u: float, v: float, rng: np.random.Generator) -> Tree:
    """A tree of random kind: mostly green, sometimes in autumn or in blossom."""
    kind = rng.choice(["broad", "slender", "cone"], p=[0.62, 0.18, 0.20])
    height = rng.uniform(4.5, 9.5)
    across, tall = {"broad": (0.72, 0.72), "slender": (0.36, 0.88), "cone": (0.5, 0.9)}[str(kind)]
    hues = np.array([(118, 160, 66), (76, 128, 62), (150, 158, 70), (92, 138, 100), (206, 142, 52), (190, 92, 54), (212, 160, 172)])
    leaf = hues[rng.choice(len(hues), p=[0.28, 0.24, 0.14, 0.12, 0.09, 0.07, 0.06])] * rng.uniform(0.75, 1.25)
    return Tree(u, v, height, (height * across * rng.uniform(0.85, 1.2), height * tall), kind == "cone", leaf)


def new_building(u: tuple[float, float], v: tuple[float, float], height_m: float, rng: np.random.Generator) -> Building:
    """A building of random style: plaster or brick of any colour, or glass the colour of the sky."""
    glassy = height_m > 12 and rng.random() < 0.4
    glass = rng.uniform((90, 115, 130), (160, 195, 225))
    return Building(
        u,
        v,
        height_m,
        storey_m=rng.uniform(2.9, 3.6),
        bay_m=rng.uniform(2.3, 3.9),
        pane=(rng.uniform(0.8, 0.88), rng.uniform(0.62, 0.7)) if glassy else (rng.uniform(0.38, 0.62), rng.uniform(0.42, 0.6)),
        wall=glass * rng.uniform(0.8, 1.3) if glassy else any_color(rng, low=75, high=240, saturation=0.55),
        glass=glass,
        pitched=bool(height_m < 11 and rng.random() < 0.75),
        shop=bool(rng.random() < 0.5),
    )
