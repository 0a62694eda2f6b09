"""What the synthetic scenes show: sky, ground and things that stand on it, with random looks."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike

from pyramidseg.demo.canvas import Canvas, Floats, box_faces, noise_tile, outline, rectangles, sample

SKY, ROAD, PAVEMENT, BUILDING, TREE, CAR, BUS, PERSON = range(8)

Decal = tuple[float, float, float, float, ArrayLike]
"""Left and right as shares of the width, bottom and top in metres, colour."""

LAMPLIGHT = np.array((255.0, 214.0, 140.0))
DARK, AMBER, PLATE, RED, WHITE = (30, 30, 32), (255, 180, 40), (225, 222, 205), (205, 30, 25), (250, 248, 228)
PLASTER = ((226, 212, 184), (214, 170, 110), (176, 92, 72), (196, 132, 104), (168, 172, 176), (150, 178, 196))
LEAVES = ((118, 160, 66), (76, 128, 62), (150, 158, 70), (92, 138, 100), (206, 142, 52), (190, 92, 54), (212, 160, 172))


class Thing(NamedTuple):
    """Something upright: class, middle, half extents and height in metres; a vehicle drives towards +v (1) or -v."""

    label: int
    at: tuple[float, float]
    half: tuple[float, float]
    height_m: float
    heading: int = 1

    def extent(self) -> Floats:
        """(2, 2) extent ((u, u), (v, v)) on the ground."""
        return np.array([(at - half, at + half) for at, half in zip(self.at, self.half, strict=True)])

    def distance_m(self) -> float:
        """Distance from the camera to the nearest point of the extent."""
        return math.hypot(*(max(low, -high, 0.0) for low, high in self.extent().tolist()))


def draw_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Fill the image down to the horizon with a gradient, clouds on a flat ceiling, and the glow of the sun."""
    (high, low), rows = canvas.sky, min(int(canvas.horizon_px) + 2, canvas.height)
    y, x = np.arange(rows)[:, None] / canvas.horizon_px, np.arange(canvas.width) / canvas.width
    stretch, (across, along) = rng.uniform(40, 90) / (np.maximum(1 - y, 0) + 0.22), rng.uniform(0, 512, 2)
    noise = sample(noise_tile(1.9), (x - 0.5) * stretch * 1.6 + across, stretch * 0.9 + along)[..., None]
    cloud = np.clip((noise - (1 - canvas.clouds)) / rng.uniform(0.08, 0.2), 0, 1) * 0.85
    puff = np.minimum(low * 0.55 + 125, 255) * (1 - 0.22 * np.clip(noise * 2 - 0.9, 0, 1))
    sun_x, sun_y = rng.uniform((0, 0.2), (1, 1))
    glow = 0.55 * canvas.sunlight * np.exp(-5 * ((x - sun_x) ** 2 + (y - sun_y) ** 2))[..., None]
    sky = high + (low - high) * np.clip(y, 0, 1)[..., None] ** 1.3
    sky = sky + (puff - sky) * cloud
    canvas.image[:rows] = np.clip(sky + ((255, 240, 205) - sky) * glow, 0, 255)


def draw_ground(canvas: Canvas, edges: Floats, lanes: int, things: list[Thing], rng: np.random.Generator) -> None:
    """Paint the road between its edges, with lanes and wear, the pavement, with slabs, and the shadows of things."""
    top = min(int(canvas.horizon_px) + 1, canvas.height)
    pixel_m = canvas.eye_m / np.maximum(np.arange(top, canvas.height)[:, None] - canvas.horizon_px, 0.2)
    right, depth = (np.arange(canvas.width) - canvas.center_px) * pixel_m, canvas.focal_px * pixel_m
    u, v = (right * x + depth * y for x, y in zip(canvas.right, canvas.ahead, strict=True))
    grey, slab_m, (wear, patch) = rng.uniform(75, 130), rng.uniform(1.1, 1.7), rng.uniform(0, 512, 2)

    def line(at: float, half_m: float) -> Floats:
        """Share of each pixel, 0 to 1, that a line along the street covers."""
        share = np.clip((half_m - np.abs(u - at)) / pixel_m + 0.5, 0, 1)
        return np.asarray(share * np.minimum(2 * half_m / pixel_m, 1))

    paint = line(edges[0] + 0.35, 0.07) + line(edges[1] - 0.35, 0.07)
    for border in np.linspace(edges[0], edges[1], lanes + 1)[1:-1]:
        paint += line(border, 0.08) * (np.mod(v, 6.0) < 3.2)
    if rng.random() < 0.35:
        beyond = np.abs(v - rng.uniform(9, 22))
        paint = np.where(beyond < 2.4, (np.mod(u - edges[0], 1.1) < 0.55) & (beyond < 1.8), paint)
    paint, kerb = 0.85 * np.minimum(paint, 1)[..., None], 0.7 * (line(edges[0], 0.25) + line(edges[1], 0.25))[..., None]
    grain = (sample(noise_tile(0.6), u * 28 + wear, v * 9 + patch) - 0.5) * np.minimum(0.05 / pixel_m, 1)
    patches = sample(noise_tile(1.6), u * 6 + patch, v * 3 + wear) - 0.5
    asphalt = grey * rng.uniform(0.96, 1.04, 3) * (1 + 0.35 * grain + 0.3 * patches)[..., None]
    slabs = np.stack([u, v]) / slab_m
    joint = np.abs(slabs - np.rint(slabs)).min(0) * slab_m < 0.04
    tone = 0.064 * np.mod(np.floor(slabs[0]) * 7 + np.floor(slabs[1]) * 3, 5) - 0.13 - 0.45 * joint
    tone = 1 + tone * np.clip(0.5 * slab_m / pixel_m - 0.5, 0, 1) + 0.12 * patches
    stone = grey * rng.uniform(1.1, 1.5) * rng.uniform((1.05, 0.93, 0.79), (1.19, 1.07, 0.93)) * tone[..., None]
    on_road = (u > edges[0]) & (u < edges[1])
    ground = np.where(on_road[..., None], asphalt + (225 - asphalt) * paint, stone + (205 - stone) * kerb)
    shadow = np.zeros((512, 512), np.float32)  # from above, 6 pixels a metre
    for thing in things:
        foot = outline(thing.extent())[:, :2]
        thrown = foot - canvas.to_sun * (canvas.sunlight * min(thing.height_m, 9.0))
        hull = cv2.convexHull((np.concatenate([foot, thrown]) * 6 + 256).astype(np.int32))
        cv2.fillConvexPoly(shadow, hull, (0.35 + 0.2 * canvas.sunlight,))
    x, y = ((at * 6 + 256).astype(np.float32) for at in (u, v))
    ground *= 1 - cv2.remap(cv2.blur(shadow, (3, 3)), x, y, cv2.INTER_LINEAR)[..., None]
    canvas.image[top:] = canvas.hazed(ground, depth[..., None])
    canvas.labels[top:] = np.where(on_road, ROAD, PAVEMENT)


def any_color(rng: np.random.Generator, *, low: float = 35, high: float = 235, saturation: float = 0.6) -> Floats:
    """A colour of any hue; half of them are nearly gray, as paint and plaster are."""
    gray, vivid, *tint = rng.random(5)
    tone = (np.array(tint) - np.mean(tint)) * (1.5 * saturation if vivid < 0.5 else 0.24)
    return np.asarray(np.clip((low + (high - low) * gray) * (1 + tone), 8, 250))


def draw_building(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A box of plaster, brick or glass with rows of windows, ledges, doors, and shops or ordinary windows below."""
    color = rng.choice(PLASTER) * rng.uniform(0.55, 1.05) * rng.uniform(0.9, 1.1, 3)
    if rng.random() < 0.25:
        color = any_color(rng, low=90, high=230)
    glass, pane = rng.uniform((90, 115, 130), (160, 195, 225)), rng.uniform((0.38, 0.42), (0.62, 0.60))
    if thing.height_m > 12 and rng.random() < 0.4:
        color, pane = glass * rng.uniform(0.8, 1.3), rng.uniform((0.80, 0.62), (0.88, 0.70))
    sign, shop, (bay_m, storey_m) = any_color(rng), rng.random() < 0.5, rng.uniform((2.3, 2.9), (3.9, 3.6))
    lamps, frame, low_m = canvas.lamps, color * 0.45 + 118, storey_m * 1.15
    floors = max(int((thing.height_m - low_m - 0.4) / storey_m), 1)
    ledges = np.array([0.2, *low_m + np.arange(floors) * storey_m, thing.height_m - 0.3])
    for face in box_faces(canvas, thing.extent(), thing.extent(), 0, thing.height_m):
        strips, step = np.linspace(0, face.width, int(face.width), endpoint=False, retstep=True)  # some are too near
        face.paint(rectangles(strips, strips + step, 0, thing.height_m), color, BUILDING)
        if face.corners[:, 2].min() > canvas.focal_px / 3:
            continue  # too far for windows
        x, z = (at.ravel() for at in np.meshgrid(strips, ledges))
        face.paint(rectangles(x, x + step, z - 0.2, z + 0.1), color * 0.7)
        bay = face.width / max(int(face.width / bay_m), 1)
        bays = np.arange(bay / 2, face.width, bay)
        x, z = (at.ravel() for at in np.meshgrid(bays, low_m + np.arange(0.22, floors) * storey_m))
        half, tall = pane * (bay / 2, storey_m)
        face.paint(rectangles(x - half - 0.12, x + half + 0.12, z - 0.12, z + tall + 0.12), frame)
        room = rng.choice(3, len(x), p=(0.45, 0.33, 0.22))
        for kind, tone in enumerate((glass * 0.45, glass * 0.9, LAMPLIGHT if lamps else glass * 0.5 + 100)):
            left, low = (x - half)[room == kind], z[room == kind]
            face.paint(rectangles(left, left + 2 * half, low, low + tall), tone)
        face.paint(rectangles(x - 0.04, x + 0.04, z, z + tall), frame)
        half, glazed = (0.42 * bay, bays) if shop else (0.22 * bay, bays[np.arange(len(bays)) % 3 > 0])
        inside, top_m = LAMPLIGHT * 0.92 if lamps else glass * 0.4, 0.8 * storey_m
        face.paint(rectangles(glazed - half, glazed + half, 0.6 if shop else 1.0, top_m), inside)
        face.paint(rectangles(bays[::3] - 0.6, bays[::3] + 0.6, 0, 2.2), sign * 0.45)
        if shop:
            face.paint(rectangles(bays - half, bays + half, top_m, top_m + 0.7), sign)


def draw_tree(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A trunk under a ragged crown of leaves, green, in autumn or in blossom: broad, slender or a conifer."""
    leaf = rng.choice(LEAVES, p=(0.32, 0.28, 0.12, 0.11, 0.07, 0.05, 0.05)) * rng.uniform(0.75, 1.25)
    broad, crown, cone = ((0.36, 0.72, 0), (0.18, 0.88, 0), (0.25, 0.9, 1))[rng.choice(3, p=(0.62, 0.18, 0.2))]
    bark, offset = np.array((1.0, 0.82, 0.65)) * rng.uniform(50, 100), rng.uniform(0, 512, 2)
    x, foot, depth = canvas.foot(*thing.at)
    scale = thing.height_m * canvas.focal_px / depth
    half, tall, top, girth = broad * rng.uniform(0.85, 1.2) * scale, crown * scale, foot - scale, max(0.03 * scale, 0.6)
    trunk = rectangles(x - girth, x + girth, foot, top + 0.6 * tall)
    canvas.paint(trunk, bark, depth, TREE)
    rows = np.arange(*np.clip((top - 0.1 * tall, top + 1.1 * tall + 1), 0, canvas.height).astype(int))
    columns = np.arange(*np.clip((x - 1.2 * half, x + 1.2 * half + 1), 0, canvas.width).astype(int))
    if not len(rows) or not len(columns):
        return
    side, down, fine = (columns - x) / half, (rows[:, None] - top) / tall, max(110, 0.45 * tall)
    clumps = sample(noise_tile(0.9), side * half / tall * 60 + offset[0], down * 60 + offset[1])
    leaves = sample(noise_tile(0.3), side * half / tall * fine + offset[0], down * fine + offset[1])
    if cone:
        tier = np.mod(down * 5, 1.0)
        reach = 0.12 + 0.75 * down + 0.16 * tier - (clumps - 0.5) * 0.35
        inside, bright = np.abs(side) + 9 * np.maximum(down - 1, 0) < reach, 0.9 - 0.35 * tier
    else:
        inside, bright = side**2 + (2 * down - 1) ** 2 < (1.16 - 0.4 * clumps) ** 2, 0.98 - 0.55 * down
    sunny = 0.22 * canvas.sunlight * float(canvas.to_sun @ canvas.right)
    tone = (bright + sunny * side) * (0.25 + 1.15 * clumps) + 0.75 * (leaves - 0.5)
    window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    canvas.image[window][inside] = canvas.hazed(np.clip(tone[inside], 0.12, 1.5)[:, None] * leaf, depth)
    canvas.labels[window][inside] = TREE


def draw_vehicle(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """A bus, or a car (saloon, hatchback or estate), of any colour: a body, and a car's cabin on it."""
    bus, extent, roof = thing.label == BUS, thing.extent(), thing.height_m
    paint, stripe = any_color(rng, low=60 if bus else 35, saturation=0.7), any_color(rng, saturation=0.9)
    glass, angle = np.array((0.85, 0.97, 1.08)) * rng.uniform(50, 110), np.arange(14) * (math.pi / 7)
    foot, belt, radius = (0.32, roof, 0.48) if bus else (0.26, rng.uniform(0.9, 1.0), 0.34)
    ends: list[Decal] = [(0.05, 0.95, 0.15, 0.38, DARK), (0.03, 0.17, 0, 0.4, DARK), (0.83, 0.97, 0, 0.4, DARK)]
    ends += [(0.39, 0.61, 0.36, 0.48, PLATE)]
    sides: list[Decal] = [(0, 1, foot, foot + 0.14, DARK)]
    if bus:
        ends += [(0.04, 0.96, 1.15, 2.45, glass), (0.485, 0.515, 1.15, 2.45, paint / 2), (0.2, 0.8, 2.58, 2.84, AMBER)]
        sides += [(0, 1, 0.72, 0.98, stripe), *((at, at + 0.1, 1.35, 2.45, glass) for at in np.arange(8) * 0.12 + 0.03)]
        sides += [(at, at + 0.1, 0.4, 2.5, glass * 0.55) for at in (0.03, 0.45, 0.87)]
    else:
        sides += [(at, at + 0.012, 0.46, belt, paint * 0.55) for at in (0.3, 0.5, 0.7)]
    one, other = (
        [*ends, (0.03, 0.17, 0.6, 0.78, lamp), (0.83, 0.97, 0.6, 0.78, lamp)] for lamp in (RED, WHITE)[:: thing.heading]
    )
    looks: tuple[Sequence[Decal], ...] = (one, sides, other, sides, ())
    boxes = [(extent, extent + 0.06 * np.array((1, -1)), foot, belt, looks)]
    if not bus:
        tail, slope = ((0.2, 0.16), (0.04, 0.16), (0.02, 0.05))[rng.integers(3)]
        along = np.array([(tail, tail + slope), (-0.27, -0.43)])[:: thing.heading] * (thing.heading * np.ptp(extent[1]))
        low, high = (extent + np.array(((side, -side), end)) for side, end in zip((0.05, 0.16), along.T, strict=True))
        panes: list[list[Decal]] = [[(*pane, belt + 0.06, roof - 0.08, glass) for pane in ((0.08, 0.48), (0.53, 0.92))]]
        panes.insert(0, [(0.08, 0.92, *panes[0][0][2:])])
        boxes.append((low, high, belt, roof, (*panes, *panes, ())))
    for below, above, low_m, high_m, looks in boxes:
        for face in box_faces(canvas, below, above, low_m, high_m):
            face.paint(rectangles(0, face.width, 0, face.height), paint, thing.label)
            for left, right, bottom, top, color in looks[face.way]:
                up = (np.array((bottom, top)) - low_m) * face.height / (high_m - low_m)
                face.paint(rectangles(left * face.width, right * face.width, *up), color, thing.label)
            if face.way in (1, 3) and low_m == foot:
                for reach, color in ((radius + 0.03, DARK), (radius * 0.6, (166, 166, 166)), (0.08, (70, 70, 70))):
                    rim = np.column_stack([reach * np.cos(angle), np.maximum(radius + reach * np.sin(angle), 0) - foot])
                    face.paint(rim + np.array([[(0.19, 0)], [(0.81, 0)]]) * face.width, color, thing.label)


def draw_person(canvas: Canvas, thing: Thing, rng: np.random.Generator) -> None:
    """An upright figure with head, coat or shirt, arms, two legs, and sometimes a bag."""
    girth, stride = rng.uniform((1.0, 0.0), (1.3, 0.7))
    top, bottom = any_color(rng, saturation=0.7), any_color(rng, low=25, high=150, saturation=0.5)
    skin, hair = np.multiply((232, 184, 150), rng.uniform(0.42, 1.05)), np.multiply((1, 0.8, 0.6), rng.uniform(20, 170))
    toe, hand, angle = 0.05 + 0.1 * stride, 0.15 + 0.05 * stride, np.arange(12) * (math.pi / 6)
    # Position, height and half width of the lower and of the upper end, in heights of the body, and colour.
    parts: list[tuple[float, float, float, float, float, float, ArrayLike]] = []
    for side, tone in ((-1, 0.75), (1, 1.0)):
        parts.append((side * toe + 0.01, 0, 0.06, side * toe, 0.05, 0.05, DARK))
        parts.append((side * toe, 0.04, 0.045, side * 0.05, 0.5, 0.07, bottom * tone))
        parts.append((side * hand, 0.43, 0.025, side * hand, 0.47, 0.025, skin))
        parts.append((side * hand, 0.46, 0.027, side * 0.122, 0.795, 0.023, top * 0.72))
    parts.append((0, rng.choice((0.3, 0.46)), 0.1, 0, 0.62, 0.115, top))
    parts += [(0, 0.62, 0.115, 0, 0.78, 0.135, top), (0, 0.78, 0.135, 0, 0.835, 0.07, top)]
    if rng.random() < 0.35:
        parts.append((0.135, 0.42, 0.055, 0.135, 0.58, 0.045, bottom * 0.5 + 40))
    parts.append((0, 0.82, 0.03, 0.02 * stride, 0.88, 0.03, skin * 0.85))
    shapes: list[tuple[ArrayLike, ArrayLike]] = [
        ([(x - a, low), (x + a, low), (to + b, up), (to - b, up)], c) for x, low, a, to, up, b, c in parts
    ]
    for up, size, color in ((0.925, 0.068, hair), (0.908, 0.052, skin)):
        shapes.append(
            (np.column_stack([0.03 * stride + size * np.cos(angle), up + 1.15 * size * np.sin(angle)]), color)
        )
    *foot, depth = canvas.foot(*thing.at)
    scale = np.array((girth, -1)) * (thing.height_m * canvas.focal_px / depth)
    for shape, color in shapes:
        canvas.paint(foot + np.array(shape)[None] * scale, color, depth, PERSON)


DRAW = {BUILDING: draw_building, TREE: draw_tree, CAR: draw_vehicle, BUS: draw_vehicle, PERSON: draw_person}
