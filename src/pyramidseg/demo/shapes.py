"""What stands in the made scenes: the contract of a thing, trees, and people; each draws itself on a canvas."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pyramidseg.demo.canvas import Canvas, Floats, Rgb, stretch_noise

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
    grey, vivid, *tint = rng.random(5)
    tone = (np.array(tint) - sum(tint) / 3) * (1.5 * saturation if vivid < 0.5 else 0.24)
    return np.asarray(np.clip((low + (high - low) * grey) * (1 + tone), 8, 250), np.float64)


def rectangle(low_u: float, high_u: float, low_v: float, high_v: float) -> Floats:
    """(4, 2) corners in order."""
    return np.array([[low_u, low_v], [high_u, low_v], [high_u, high_v], [low_u, high_v]])


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
        offset, bark = rng.uniform(0, 512, 2), rng.uniform(50, 100)
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
        shape, start = (len(rows), len(columns)), (columns[0] - x, rows[0] - top)
        clumps, leaves = (
            stretch_noise(
                roughness,
                shape,
                scale=(detail / tall, detail / tall),
                offset=(start[0] * detail / tall + offset[0], start[1] * detail / tall + offset[1]),
            )
            for roughness, detail in ((0.9, 60.0), (0.3, max(110.0, 0.45 * tall)))
        )
        if self.cone:
            tiers = np.mod(down * 5, 1.0)
            reach = np.abs(side) - (0.12 + 0.75 * down + 0.16 * tiers) + np.maximum(down - 1, 0) * 9
            inside = reach + (clumps - 0.5) * 0.35 < 0
            light = (0.55 + 0.35 * (1 - tiers)).astype(np.float32)
        else:
            inside = side**2 + (2 * down - 1) ** 2 < (1.16 - 0.4 * clumps) ** 2
            light = (0.98 - 0.55 * down).astype(np.float32)
        towards = canvas.light.sun[0] * math.cos(canvas.camera.yaw) - canvas.light.sun[1] * math.sin(canvas.camera.yaw)
        lit = light + side * np.float32(0.22 * towards * canvas.light.sun_strength)
        tone = np.clip(lit * (0.25 + 1.15 * clumps) + 0.75 * (leaves - 0.5), 0.12, 1.5)
        clear = math.exp(-depth / canvas.light.haze_range_m)
        hue = self.leaf * clear
        color = tone[..., None] * hue.astype(np.float32) + np.array(canvas.light.haze, np.float32) * np.float32(
            1 - clear
        )
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        np.copyto(canvas.image[window], np.minimum(color, 255), where=inside[..., None], casting="unsafe")
        canvas.labels[window][inside] = TREE


@dataclass(frozen=True)
class Person:
    """Somebody upright: head, coat or shirt, arms, two legs, sometimes a bag; `girth` widens the slender figure."""

    u: float
    v: float
    height_m: float
    girth: float
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
            shape = foot + np.array(points) * (scale * self.girth, -scale)
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
            part(
                [(side * 0.10, 0.80), (side * 0.145, 0.79), (hand + side * 0.025, 0.46), (hand - side * 0.03, 0.46)],
                arm,
            )
        part(
            [
                (-0.10, hem),
                (0.10, hem),
                (0.115, 0.62),
                (0.135, 0.78),
                (0.07, 0.835),
                (-0.07, 0.835),
                (-0.135, 0.78),
                (-0.115, 0.62),
            ],
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
        girth=rng.uniform(1.0, 1.3),
        stride=rng.uniform(0.0, 0.7),
        top=any_color(rng, saturation=0.7),
        bottom=any_color(rng, low=25, high=150, saturation=0.5),
        skin=np.array((232.0, 184.0, 150.0)) * rng.uniform(0.42, 1.05),
        hair=np.array((1.0, 0.8, 0.6)) * rng.uniform(20, 170),
        coat=bool(rng.random() < 0.5),
        bag=bool(rng.random() < 0.35),
    )


def new_tree(u: float, v: float, rng: np.random.Generator) -> Tree:
    """A tree of random kind: mostly green, sometimes in autumn or in blossom."""
    kind = rng.choice(["broad", "slender", "cone"], p=[0.62, 0.18, 0.20])
    height = rng.uniform(4.5, 9.5)
    across, tall = {"broad": (0.72, 0.72), "slender": (0.36, 0.88), "cone": (0.5, 0.9)}[str(kind)]
    hues = np.array(
        [(118, 160, 66), (76, 128, 62), (150, 158, 70), (92, 138, 100), (206, 142, 52), (190, 92, 54), (212, 160, 172)]
    )
    leaf = hues[rng.choice(len(hues), p=[0.32, 0.28, 0.12, 0.11, 0.07, 0.05, 0.05])] * rng.uniform(0.75, 1.25)
    return Tree(u, v, height, (height * across * rng.uniform(0.85, 1.2), height * tall), kind == "cone", leaf)
