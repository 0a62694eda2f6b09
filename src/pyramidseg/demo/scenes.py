"""Made street scenes with exact labels, for the demonstration, the tests and first steps without a data set.

A scene is a function of (seed, index) alone. The camera stands in a street of houses; everything has a place in metres
and is drawn in perspective from far to near, so that occlusion, scale and labels agree. Colours say little about the
class (cars, buses, people and walls come in all of them); shape, texture and context say it.
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
from pyramidseg.demo.backdrop import Street, draw_ground, draw_sky, shadow_map, skyline
from pyramidseg.demo.buildings import new_building
from pyramidseg.demo.canvas import Camera, Canvas, Light
from pyramidseg.demo.shapes import (
    BUILDING,
    TREE,
    Thing,
    new_person,
    new_tree,
    rectangle,
)
from pyramidseg.demo.vehicles import new_bus, new_car

SCENE_CLASSES = Classes(
    ("sky", "road", "pavement", "building", "tree", "car", "bus", "person"),
    (
        (110, 180, 235),
        (95, 75, 125),
        (225, 150, 205),
        (150, 105, 80),
        (70, 150, 60),
        (30, 70, 200),
        (245, 190, 50),
        (225, 45, 60),
    ),
)

SMALLEST_PX = 32

CLEARANCE = 1.6
"""Things are at least that many times as far away as they are high, or they would be seen in part only."""


class Scene(NamedTuple):
    """An image, (H, W, 3) uint8 RGB, and its labels, (H, W) uint8 ids of `SCENE_CLASSES`."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def draw_scene(index: int, *, seed: int = 0, height: int = 240, width: int = 320) -> Scene:
    """Draw scene number `index` of the endless series that `seed` begins.

    Raises:
        ConfigError: a side below 32 pixels, or a negative index or seed.
    """
    if min(height, width) < SMALLEST_PX:
        raise ConfigError(f"scene size {height}x{width}: both sides must be at least {SMALLEST_PX} pixels")
    if index < 0 or seed < 0:
        raise ConfigError(f"scene {index} of seed {seed}: both must be 0 or more")
    rng = np.random.default_rng([seed, index])
    street, camera = _place_camera(rng, height, width)
    canvas = Canvas(camera, _weather(rng))
    walls = _houses_and_woods(street, camera, rng)
    things = _traffic_and_people(street, camera, rng)
    draw_sky(canvas, rng)
    near = [thing for thing in [*walls, *things] if _distance(thing) < 35]
    shadow = shadow_map(canvas, [(thing.footprint(), thing.height_m) for thing in near])
    draw_ground(canvas, street, shadow, rng)
    skyline(canvas, rng, building=BUILDING, tree=TREE)
    # Houses line the street that the camera stands in: nothing in the street is ever behind one.
    for thing in [*sorted(walls, key=_distance, reverse=True), *sorted(things, key=_distance, reverse=True)]:
        thing.draw(canvas, rng)
    image, labels = _expose(canvas, rng), canvas.labels
    if rng.random() < 0.5:
        image, labels = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(labels[:, ::-1])
    return Scene(image, labels)


def write_scenes(folder: Path, *, train: int, val: int, seed: int = 0, height: int = 240, width: int = 320) -> Path:
    """Write a data set of paired images and masks, `{train,val}/{images,masks}/scene_0000.png`.

    Validation scenes follow the training scenes in the series, so none occurs twice. The description is written first:
    what was interrupted can be told from a folder of somebody else's.

    Returns:
        The path of its description, `dataset.yaml`.

    Raises:
        ConfigError: a negative number, or what `draw_scene` refuses.
        OutputError: the disk is full, or the folder cannot be written.
    """
    if train < 0 or val < 0:
        raise ConfigError(f"{train} training and {val} validation scenes: neither number can be negative")
    description = folder / "dataset.yaml"
    write_text(description, _description())
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
    """Write (H, W, 3) RGB or (H, W) grey as PNG.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    with explained_writes(path):
        Image.fromarray(pixels).save(path)


def _description() -> str:
    """Content of the dataset file."""
    classes = [
        {"name": name, "color": list(color)}
        for name, color in zip(SCENE_CLASSES.names, SCENE_CLASSES.colors, strict=True)
    ]
    return yaml.safe_dump({"format": "paired", "classes": classes}, sort_keys=False, default_flow_style=None)


def _place_camera(rng: np.random.Generator, height: int, width: int) -> tuple[Street, Camera]:
    """A street and a camera in it that looks along, across, or anything between."""
    lanes = int(rng.integers(2, 4))
    road_m = lanes * rng.uniform(3.1, 3.6) + rng.choice([0.0, 2.0])
    view = rng.choice(["along", "oblique", "across"], p=[0.5, 0.27, 0.23])
    if view == "along":
        yaw, left = math.radians(rng.uniform(-8, 14)), -rng.uniform(0.1, 0.95) * road_m
    elif view == "oblique":
        yaw, left = math.radians(rng.uniform(18, 45)), rng.uniform(-0.5, 0.15) * road_m
    else:
        yaw, left = math.radians(rng.uniform(65, 90)), rng.uniform(1.5, 5.0)
    grey = rng.uniform(75, 130)
    street = Street(
        left_m=left,
        right_m=left + road_m,
        pavement_m=rng.uniform(3.5, 6.5),
        lanes=lanes,
        crossing_m=float(rng.uniform(9, 22)) if rng.random() < 0.35 else None,
        road=_triple(grey * (1 + rng.uniform(-0.04, 0.04, 3))),
        pavement=_triple(grey * rng.uniform(1.1, 1.5) * (np.array((1.12, 1.0, 0.86)) + rng.uniform(-0.07, 0.07, 3))),
        slab_m=rng.uniform(1.1, 1.7),
    )
    camera = Camera(
        width,
        height,
        focal_px=rng.uniform(0.85, 1.15) * math.sqrt(width * height),
        center_px=rng.uniform(0.35, 0.65) * width,
        horizon_px=rng.uniform(0.34, 0.56) * height,
        eye_m=rng.uniform(1.8, 3.0),
        yaw=yaw,
    )
    return street, camera


def _weather(rng: np.random.Generator) -> Light:
    """One of six kinds of light, varied: sky above and at the horizon, sun, haze range, clouds, lamps."""
    kinds = (
        ((72, 130, 205), (190, 215, 235), 1.0, 260, 0.50, False),  # clear day
        ((96, 150, 215), (225, 225, 215), 0.8, 150, 0.62, False),  # hazy sun
        ((150, 160, 172), (205, 208, 210), 0.0, 130, 0.75, False),  # overcast
        ((185, 190, 195), (218, 220, 220), 0.1, 55, 0.55, False),  # mist
        ((98, 112, 165), (250, 190, 130), 0.75, 150, 0.58, False),  # evening sun
        ((44, 56, 104), (200, 150, 150), 0.15, 140, 0.58, True),  # dusk
    )
    top, low, sun, haze_m, cover, lamps = kinds[int(rng.choice(6, p=[0.26, 0.2, 0.18, 0.1, 0.14, 0.12]))]
    bearing = rng.uniform(0, 2 * math.pi)
    tint = 1 + rng.uniform(-0.05, 0.05, 3)
    return Light(
        sun=(math.cos(bearing), math.sin(bearing)),
        sun_strength=sun * rng.uniform(0.7, 1.1),
        sun_slope=rng.uniform(0.5, 1.6),
        haze=_triple((np.array(low) * 0.9 + np.array(top) * 0.1) * tint),
        haze_range_m=haze_m * rng.uniform(0.7, 1.4),
        sky_top=_triple(np.array(top) * tint),
        sky_low=_triple(np.array(low) * tint),
        cloud_cover=min(cover * rng.uniform(0.6, 1.2), 0.95),
        lamps=lamps,
    )


def _houses_and_woods(street: Street, camera: Camera, rng: np.random.Generator) -> list[Thing]:
    """A row of houses with gaps on either side of the street, or a park instead, and trees between and behind."""
    low, high = ((4.5, 7.5), (8.0, 14.0), (12.0, 28.0))[int(rng.choice(3, p=[0.4, 0.4, 0.2]))]
    things: list[Thing] = []
    for wall, outwards in zip(street.walls_m, (-1, 1), strict=True):
        park, free = rng.random() < 0.22, True
        v = rng.uniform(-30, -20)
        while v < 70:
            if park:
                things += _tree_in_sight(wall + outwards * rng.uniform(1, 9), v, camera, rng)
                v += rng.uniform(4, 6)
                continue
            frontage, gap = rng.uniform(8, 17), rng.uniform(3, 8) if rng.random() < 0.35 else 0.0
            back = wall + outwards * rng.uniform(8, 12)
            sides, ends = (min(wall, back), max(wall, back)), (v, v + frontage)
            if camera.sees(rectangle(*sides, *ends)):
                things.append(new_building(sides, ends, rng.uniform(low, high), (free, gap > 0), rng))
            v += frontage + gap
            free = gap > 0
            if free:
                things += _tree_in_sight(wall + outwards * rng.uniform(3, 8), v - gap / 2, camera, rng)
    return things


def _traffic_and_people(street: Street, camera: Camera, rng: np.random.Generator) -> list[Thing]:
    """Vehicles in the lanes, trees by the kerb, and people who keep clear of both."""
    things = _vehicles(street, camera, rng)
    for kerb in (street.left_m - 0.9, street.right_m + 0.9):
        spacing, planted = rng.uniform(7, 13), rng.random() < 0.45
        for v in np.arange(rng.uniform(-4, 6), 45, spacing).tolist():
            things += _tree_in_sight(kerb, v, camera, rng) if planted else []
    things = [thing for thing in things if _fits(thing, camera)]
    for _ in range(int(rng.integers(2, 6))):
        things += _person_somewhere(street, camera, things, rng)
    return things


def _vehicles(street: Street, camera: Camera, rng: np.random.Generator) -> list[Thing]:
    """Cars and buses behind each other in every lane, those on the right heading away."""
    things: list[Thing] = []
    density = rng.uniform(0.35, 0.65)
    for number, lane in enumerate(street.lane_centers_m()):
        heading = 1 if number >= street.lanes / 2 else -1
        v = rng.uniform(-12, -6)
        while v < 42:
            is_bus, present, gap = rng.random() < 0.3, rng.random() < density, rng.uniform(0.8, 5)
            length, aside = 12.0 if is_bus else 4.8, lane + rng.uniform(-0.25, 0.25)
            if present and camera.sees(rectangle(aside - 1, aside + 1, v, v + length)):
                things.append((new_bus if is_bus else new_car)(aside, v + length / 2, heading, rng))
            v += length + gap
    return things


def _tree_in_sight(u: float, v: float, camera: Camera, rng: np.random.Generator) -> list[Thing]:
    """A tree at that place, if the camera looks there."""
    return [new_tree(u, v, rng)] if camera.sees(np.array([[u, v]]), margin_m=3.5) else []


def _person_somewhere(street: Street, camera: Camera, things: list[Thing], rng: np.random.Generator) -> list[Thing]:
    """A person in the image and in nobody's way, more likely on the pavement; none if four places are taken."""
    for _ in range(4):
        depth = math.exp(rng.uniform(math.log(4.2), math.log(8.5)))
        right = (rng.uniform(0.03, 0.97) * camera.width - camera.center_px) * depth / camera.focal_px
        u, v = camera.street(right, depth)
        walkable = street.walls_m[0] + 0.4 < u < street.walls_m[1] - 0.4
        on_road = street.left_m < u < street.right_m
        if walkable and (not on_road or rng.random() < 0.3):
            person = new_person(u, v, rng)
            if all(_apart(person, thing) for thing in things):
                return [person]
    return []


def _apart(person: Thing, thing: Thing) -> bool:
    """Whether there is air between two footprints."""
    one, other = person.footprint(), thing.footprint()
    return bool((one.min(0) > other.max(0) + 0.25).any() or (one.max(0) < other.min(0) - 0.25).any())


def _distance(thing: Thing) -> float:
    """Metres from the camera to the nearest point of the footprint."""
    corners = thing.footprint()
    return float(np.hypot(*np.maximum(np.maximum(corners.min(0), -corners.max(0)), 0.0)))


def _fits(thing: Thing, camera: Camera) -> bool:
    """Whether it is neither upon the camera nor too small to make out."""
    footprint = thing.footprint()
    depth = camera.view(np.column_stack([footprint, np.zeros(len(footprint))]))[:, 2]
    large_enough = thing.height_m * camera.focal_px / depth.min() > 0.11 * camera.height
    return bool(depth.min() > CLEARANCE * min(thing.height_m, 4.0) + 1.5 and large_enough)


def _expose(canvas: Canvas, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture as a camera would give it: colour cast, brightness, contrast and grain."""
    cast = 1 + rng.uniform(-0.05, 0.05, 3)
    gain, gamma = rng.uniform(0.95, 1.15), rng.uniform(0.78, 1.08)
    ramp = (np.arange(256)[:, None] / 255) ** gamma * 255 * gain * cast
    table = np.clip(np.rint(ramp), 0, 255).astype(np.uint8)[None]
    grain = rng.integers(-4, 5, canvas.labels.shape, np.int8).astype(np.int16)
    exposed = cv2.add(cv2.LUT(canvas.image, table), cv2.merge([grain] * 3), dtype=cv2.CV_8U)
    return np.asarray(exposed, np.uint8)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = np.clip(values, 0, 255).tolist()
    return red, green, blue
