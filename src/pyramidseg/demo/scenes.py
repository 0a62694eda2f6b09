"""Synthetic street scenes with exact labels, for the demo, the tests and first steps without a dataset.

A scene is a function of (seed, index) alone. The camera is in a street; everything has a place in metres and is drawn
in perspective from far to near, so that occlusion, scale and labels agree. Colours say little about the class (cars,
buses, people and walls come in all of them); shape, texture and context do.
"""

import math
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.files import explained_writes, make_folder, write_text
from pyramidseg.demo.canvas import Canvas, Floats, outline
from pyramidseg.demo.things import BUILDING, BUS, CAR, DRAW, PERSON, TREE, Thing, draw_ground, draw_sky

SCENE_COLORS = (
    *((110, 180, 235), (95, 75, 125), (225, 150, 205), (150, 105, 80)),
    *((70, 150, 60), (30, 70, 200), (245, 190, 50), (225, 45, 60)),
)
SCENE_CLASSES = Classes(("sky", "road", "pavement", "building", "tree", "car", "bus", "person"), SCENE_COLORS)

SMALLEST_PX = 32


class StreetScene(NamedTuple):
    """An image, (H, W, 3) uint8 RGB, and its labels, (H, W) uint8 ids of `SCENE_CLASSES`."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def draw_scene(index: int, *, seed: int = 0, height: int = 240, width: int = 320) -> StreetScene:
    """Draw scene number `index` of the endless series of a seed.

    Raises:
        ConfigError: a side below 32 pixels, or a negative index or seed.
    """
    if min(height, width) < SMALLEST_PX:
        raise ConfigError(f"scene size {height}x{width}: both sides must be at least {SMALLEST_PX} pixels")
    if index < 0 or seed < 0:
        raise ConfigError(f"scene {index} of seed {seed}: both must be 0 or more")
    rng = np.random.default_rng([seed, index])
    lanes = int(rng.integers(2, 4))
    road_m = lanes * rng.uniform(3.1, 3.6) + rng.choice([0.0, 2.0])
    yaw, left = (
        ((-8, 14), (-0.95 * road_m, -0.1 * road_m)),  # along the street
        ((18, 45), (-0.5 * road_m, 0.15 * road_m)),  # oblique
        ((65, 90), (1.5, 5.0)),  # across
    )[rng.choice(3, p=[0.5, 0.27, 0.23])]
    canvas = Canvas(height, width, math.radians(rng.uniform(*yaw)), rng)
    road = rng.uniform(*left) + np.array((0.0, road_m))
    walls = road + np.array((-1, 1)) * rng.uniform(3.5, 6.5)
    rows = _buildings_and_parks(canvas, walls, rng), _traffic_and_people(canvas, walls, road, lanes, rng)
    draw_sky(canvas, rng)
    draw_ground(canvas, road, lanes, [thing for row in rows for thing in row if thing.distance_m() < 35], rng)
    # Buildings line the street that the camera is in: nothing in the street is ever behind one.
    for row in rows:
        for thing in sorted(row, key=lambda thing: -thing.distance_m()):
            DRAW[thing.label](canvas, thing, rng)
    cast, gamma = rng.uniform(0.95, 1.05, 3) * rng.uniform(0.95, 1.15), rng.uniform(0.78, 1.08)
    exposed = (np.arange(256)[:, None] / 255) ** gamma * 255 * cast
    image = cv2.LUT(canvas.image, np.clip(np.rint(exposed), 0, 255).astype(np.uint8)[None])
    image = np.clip(image + rng.integers(-4, 5, (height, width, 1), np.int16), 0, 255).astype(np.uint8)
    flip = slice(None, None, -1 if rng.random() < 0.5 else 1)
    return StreetScene(np.ascontiguousarray(image[:, flip]), np.ascontiguousarray(canvas.labels[:, flip]))


def write_scenes(folder: Path, *, train: int, val: int, seed: int = 0, height: int = 240, width: int = 320) -> Path:
    """Write a dataset of paired images and masks, `{train,val}/{images,masks}/scene_0000.png`.

    Validation scenes follow the training scenes in the series.

    Returns:
        The path of the description, `dataset.yaml`.

    Raises:
        ConfigError: a negative number, or what `draw_scene` refuses.
        OutputError: the disk is full, or the folder cannot be written.
    """
    if train < 0 or val < 0:
        raise ConfigError(f"{train} training and {val} validation scenes: neither number can be negative")
    description = folder / "dataset.yaml"
    named = zip(SCENE_CLASSES.names, map(list, SCENE_CLASSES.colors), strict=True)
    content = {"format": "paired", "classes": [{"name": name, "color": color} for name, color in named]}
    write_text(description, yaml.safe_dump(content, sort_keys=False, default_flow_style=None))
    for split, indices in (("train", range(train)), ("val", range(train, train + val))):
        images, masks = folder / split / "images", folder / split / "masks"
        make_folder(images)
        make_folder(masks)
        for index in indices:
            scene = draw_scene(index, seed=seed, height=height, width=width)
            write_picture(images / f"scene_{index:04d}.png", scene.image)
            write_picture(masks / f"scene_{index:04d}.png", scene.labels)
    return description


def write_picture(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write (H, W, 3) RGB or (H, W) gray pixels as PNG.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    with explained_writes(path):
        Image.fromarray(pixels).save(path)


def _tree(u: float, v: float, rng: np.random.Generator) -> Thing:
    height = rng.uniform(4.5, 9.5)
    return Thing(TREE, (u, v), (height / 4, height / 4), height)


def _buildings_and_parks(canvas: Canvas, walls: Floats, rng: np.random.Generator) -> list[Thing]:
    """On either side of the street a row of buildings with gaps and trees in them, or a park; a mixed row far ahead."""
    low, high = ((7.5, 7.5), (8.0, 14.0), (12.0, 28.0))[rng.choice(3, p=[0.4, 0.4, 0.2])]
    things = [Thing(BUILDING, (u, 85), (7, 5), rng.uniform(7, 14)) for u in range(-60, 61, 15) if rng.random() < 0.7]
    things += [_tree(u, 75, rng) for u in range(-60, 61, 12) if rng.random() < 0.6]
    for wall, outwards in zip(walls, (-1, 1), strict=True):
        park, v = rng.random() < 0.22, rng.uniform(-30, -20)
        while v < 70:
            half, deep, gap = (*rng.uniform(4, (8.5, 6)), rng.uniform(3, 8) if park or rng.random() < 0.35 else 0.0)
            if gap:
                things.append(_tree(wall + outwards * rng.uniform(2, 9), v - gap / 2, rng))
            if not park:
                things.append(Thing(BUILDING, (wall + outwards * deep, v + half), (deep, half), rng.uniform(low, high)))
            v += gap + 2 * half * (not park)
    return [thing for thing in things if _is_seen(canvas, thing)]


def _traffic_and_people(
    canvas: Canvas, walls: Floats, road: Floats, lanes: int, rng: np.random.Generator
) -> list[Thing]:
    """Vehicles one behind the other in every lane, trees along the kerbs, and people who keep clear of both."""
    things: list[Thing] = []
    people: list[Thing] = []
    density = rng.uniform(0.35, 0.65)
    for lane in range(lanes):
        v, heading = rng.uniform(-12, -6), 1 if 2 * lane >= lanes else -1
        while v < 42:
            bus = rng.random() < 0.3
            sizes = ((1.25, 4.6, 3.0), (1.25, 5.8, 3.2)) if bus else ((0.86, 1.95, 1.42), (0.94, 2.3, 1.62))
            half_u, half_v, roof = rng.uniform(*sizes)
            at = road[0] + np.ptp(road) * (lane + 0.5) / lanes + rng.uniform(-0.25, 0.25), v + half_v
            if rng.random() < density:
                things.append(Thing(BUS if bus else CAR, at, (half_u, half_v), roof, heading))
            v += 2 * half_v + rng.uniform(1, 5)
    for kerb in road + np.array((-0.9, 0.9)):
        spacing, planted = rng.uniform(7, 13), rng.random() < 0.45
        things += [_tree(kerb, v, rng) for v in np.arange(rng.uniform(-4, 6), 45, spacing) if planted]
    things = [thing for thing in things if _is_seen(canvas, thing, clear=True)]
    wanted = rng.integers(2, 6)
    for _ in range(3 * wanted):
        depth = math.exp(rng.uniform(math.log(4.2), math.log(8.5)))
        right = (rng.uniform(0.03, 0.97) * canvas.width - canvas.center_px) * depth / canvas.focal_px
        u, v = right * canvas.right + depth * canvas.ahead
        walks = walls[0] + 0.4 < u < walls[1] - 0.4 and (not road[0] < u < road[1] or rng.random() < 0.3)
        clear = all((np.abs(np.subtract(thing.at, (u, v))) > np.add(thing.half, 0.5)).any() for thing in things)
        if walks and clear and len(people) < wanted:
            people.append(Thing(PERSON, (u, v), (0.25, 0.25), rng.uniform(1.62, 1.95)))
    return things + people


def _is_seen(canvas: Canvas, thing: Thing, *, clear: bool = False) -> bool:
    """Whether a thing can be in the image; if `clear`, far enough to be seen whole and near enough to be recognised."""
    x, _, depth = canvas.project(outline(thing.extent())).T
    seen = (depth > 1).any() and (x > 0).any() and (x < canvas.width * np.maximum(depth, 0)).any()
    near, far = 1.6 * min(thing.height_m, 4) + 1.5, thing.height_m * canvas.focal_px / (0.11 * canvas.height)
    return bool(seen and (not clear or near < depth.min() < far))
