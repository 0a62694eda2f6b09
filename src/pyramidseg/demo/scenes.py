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
from pyramidseg.demo.backdrop import Street, draw_ground, draw_horizon, draw_sky
from pyramidseg.demo.canvas import Camera, Canvas, Light
from pyramidseg.demo.things import Building, Person, Thing, around, new_tree
from pyramidseg.demo.vehicles import new_vehicle

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


class Scene(NamedTuple):
    """An image, (H, W, 3) uint8 RGB, and its labels, (H, W) uint8 ids of `SCENE_CLASSES`."""

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def draw_scene(index: int, *, seed: int = 0, height: int = 240, width: int = 320) -> Scene:
    """Draw scene number `index` of the endless series of a seed.

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
    walls, things = _buildings_and_parks(street, camera, rng), _traffic_and_people(street, camera, rng)
    draw_sky(canvas, rng)
    draw_ground(canvas, street, [thing for thing in [*walls, *things] if thing.distance_m < 35], rng)
    draw_horizon(canvas, rng)
    # Buildings line the street that the camera is in: nothing in the street is ever behind one.
    for row in (walls, things):
        for thing in sorted(row, key=lambda thing: -thing.distance_m):
            thing.draw(canvas, rng)
    flip = slice(None, None, -1 if rng.random() < 0.5 else 1)
    image, labels = _expose(canvas.image, rng)[:, flip], canvas.labels[:, flip]
    return Scene(np.ascontiguousarray(image), np.ascontiguousarray(labels))


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


def _place_camera(rng: np.random.Generator, height: int, width: int) -> tuple[Street, Camera]:
    """A street, and a camera in it that looks along it, across it, or in between."""
    lanes = int(rng.integers(2, 4))
    road_m = lanes * rng.uniform(3.1, 3.6) + rng.choice([0.0, 2.0])
    (yaw_low, yaw_high), (left_low, left_high) = (
        ((-8, 14), (-0.95 * road_m, -0.1 * road_m)),  # along
        ((18, 45), (-0.5 * road_m, 0.15 * road_m)),  # oblique
        ((65, 90), (1.5, 5.0)),  # across
    )[rng.choice(3, p=[0.5, 0.27, 0.23])]
    left, grey = rng.uniform(left_low, left_high), rng.uniform(75, 130)
    street = Street(
        left_m=left,
        right_m=left + road_m,
        pavement_m=rng.uniform(3.5, 6.5),
        lanes=lanes,
        crossing_m=rng.uniform(9, 22) if rng.random() < 0.35 else None,
        road=grey * rng.uniform(0.96, 1.04, 3),
        pavement=grey * rng.uniform(1.1, 1.5) * (np.array((1.12, 1.0, 0.86)) + rng.uniform(-0.07, 0.07, 3)),
        slab_m=rng.uniform(1.1, 1.7),
    )
    camera = Camera(
        width,
        height,
        focal_px=rng.uniform(0.85, 1.15) * math.sqrt(width * height),
        center_px=rng.uniform(0.35, 0.65) * width,
        horizon_px=rng.uniform(0.34, 0.56) * height,
        eye_m=rng.uniform(1.8, 3.0),
        yaw=math.radians(rng.uniform(yaw_low, yaw_high)),
    )
    return street, camera


def _weather(rng: np.random.Generator) -> Light:
    """One of six kinds of light, varied: sky above and at the horizon, sun, haze range, clouds, lamps."""
    top, low, sun, haze_m, cover, lamps = (
        ((72, 130, 205), (190, 215, 235), 1.0, 260, 0.50, False),  # clear day
        ((96, 150, 215), (225, 225, 215), 0.8, 150, 0.62, False),  # hazy sun
        ((150, 160, 172), (205, 208, 210), 0.0, 130, 0.75, False),  # overcast
        ((185, 190, 195), (218, 220, 220), 0.1, 55, 0.55, False),  # mist
        ((98, 112, 165), (250, 190, 130), 0.75, 150, 0.58, False),  # evening sun
        ((44, 56, 104), (200, 150, 150), 0.15, 140, 0.58, True),  # dusk
    )[rng.choice(6, p=[0.26, 0.2, 0.18, 0.1, 0.14, 0.12])]
    bearing, tint = rng.uniform(0, 2 * math.pi), rng.uniform(0.95, 1.05, 3)
    return Light(
        sun=np.array((math.cos(bearing), math.sin(bearing))),
        sun_strength=sun * rng.uniform(0.7, 1.1),
        shadow_slope=rng.uniform(0.5, 1.6),
        haze=(np.array(low) * 0.9 + np.array(top) * 0.1) * tint,
        haze_range_m=haze_m * rng.uniform(0.7, 1.4),
        sky_top=np.array(top) * tint,
        sky_low=np.array(low) * tint,
        cloud_cover=min(cover * rng.uniform(0.6, 1.2), 0.95),
        lamps=lamps,
    )


def _buildings_and_parks(street: Street, camera: Camera, rng: np.random.Generator) -> list[Thing]:
    """On either side of the street a row of buildings with gaps, or a park, and trees in and behind the gaps."""
    low, high = ((4.5, 7.5), (8.0, 14.0), (12.0, 28.0))[rng.choice(3, p=[0.4, 0.4, 0.2])]
    things: list[Thing] = []
    for wall, outwards in zip(street.walls_m, (-1, 1), strict=True):
        park, v = rng.random() < 0.22, rng.uniform(-30, -20)
        while v < 70:
            if park:
                things.append(new_tree(wall + outwards * rng.uniform(1, 9), v, rng))
                v += rng.uniform(4, 6)
                continue
            frontage, gap = rng.uniform(8, 17), rng.uniform(3, 8) if rng.random() < 0.35 else 0.0
            near, far = sorted((wall, wall + outwards * rng.uniform(8, 12)))
            things.append(Building(u=(near, far), v=(v, v + frontage), height_m=max(rng.uniform(low, high), 7.5)))
            v += frontage + gap
            if gap:
                things.append(new_tree(wall + outwards * rng.uniform(3, 8), v - gap / 2, rng))
    return [thing for thing in things if camera.sees(thing.footprint(), margin_m=3.0)]


def _traffic_and_people(street: Street, camera: Camera, rng: np.random.Generator) -> list[Thing]:
    """Vehicles one behind the other in every lane, trees along the kerbs, and people who keep clear of both."""
    things: list[Thing] = []
    density, lane_m = rng.uniform(0.35, 0.65), (street.right_m - street.left_m) / street.lanes
    for lane in range(street.lanes):
        u, v = street.left_m + lane_m * (lane + 0.5), rng.uniform(-12, -6)
        heading = 1 if 2 * lane >= street.lanes else -1
        while v < 42:
            bus = rng.random() < 0.3
            length = 12.0 if bus else 4.8
            if rng.random() < density:
                things.append(new_vehicle(u + rng.uniform(-0.25, 0.25), v + length / 2, heading, rng, bus=bus))
            v += length + rng.uniform(0.8, 5)
    for kerb in (street.left_m - 0.9, street.right_m + 0.9):
        spacing, planted = rng.uniform(7, 13), rng.random() < 0.45
        things += [new_tree(kerb, v, rng) for v in np.arange(rng.uniform(-4, 6), 45, spacing) if planted]
    things = [thing for thing in things if camera.sees(thing.footprint(), margin_m=1.0) and _is_clear(thing, camera)]
    for _ in range(int(rng.integers(2, 6))):
        things += _person_somewhere(street, camera, things, rng)
    return things


def _person_somewhere(street: Street, camera: Camera, things: list[Thing], rng: np.random.Generator) -> list[Thing]:
    """A person in the image, more likely on the pavement; none if four random places are taken."""
    for _ in range(4):
        depth = math.exp(rng.uniform(math.log(4.2), math.log(8.5)))
        right = (rng.uniform(0.03, 0.97) * camera.width - camera.center_px) * depth / camera.focal_px
        u, v = (float(at) for at in camera.street(right, depth))
        walkable = street.walls_m[0] + 0.4 < u < street.walls_m[1] - 0.4
        if walkable and (not street.left_m < u < street.right_m or rng.random() < 0.3):
            taken = any(
                thing.u[0] - 0.5 < u < thing.u[1] + 0.5 and thing.v[0] - 0.5 < v < thing.v[1] + 0.5 for thing in things
            )
            if not taken:
                return [Person(u=around(u, 0.25), v=around(v, 0.25), height_m=rng.uniform(1.62, 1.95))]
    return []


def _is_clear(thing: Thing, camera: Camera) -> bool:
    """Whether a thing is far enough away to be seen whole, and near enough to be recognized."""
    depth = camera.view(np.insert(thing.footprint(), 2, 0.0, axis=1))[:, 2].min()
    large_enough = thing.height_m * camera.focal_px > 0.11 * camera.height * depth
    return bool(depth > 1.6 * min(thing.height_m, 4.0) + 1.5 and large_enough)


def _expose(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Apply a camera's colour cast, brightness, contrast and grain."""
    cast, gain, gamma = rng.uniform(0.95, 1.05, 3), rng.uniform(0.95, 1.15), rng.uniform(0.78, 1.08)
    ramp = (np.arange(256)[:, None] / 255) ** gamma * 255 * gain * cast
    exposed = cv2.LUT(image, np.clip(np.rint(ramp), 0, 255).astype(np.uint8)[None])
    grain = rng.integers(-4, 5, image.shape[:2], np.int16)[..., None]
    return np.asarray(np.clip(exposed + grain, 0, 255), np.uint8)
