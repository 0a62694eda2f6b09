"""Sky, ground, shadows and horizon of the synthetic scenes."""

from dataclasses import dataclass

import cv2
import numpy as np

from pyramidseg.demo.canvas import Canvas, Floats, clip_near, rectangles, sample_noise
from pyramidseg.demo.things import BUILDING, TREE, Thing

SKY, ROAD, PAVEMENT = 0, 1, 2


@dataclass(frozen=True)
class Street:
    """Extent of the road across the street and what is painted on it; colours are of road and pavement."""

    left_m: float
    right_m: float
    pavement_m: float
    lanes: int
    crossing_m: float | None
    road: Floats
    pavement: Floats
    slab_m: float

    @property
    def walls_m(self) -> tuple[float, float]:
        """Where the buildings begin on either side."""
        return self.left_m - self.pavement_m, self.right_m + self.pavement_m


def draw_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Fill the image down to the horizon with a gradient, clouds on a flat ceiling, and the glow of the sun."""
    camera, light = canvas.camera, canvas.light
    rows = min(int(camera.horizon_px) + 2, camera.height)
    y, x = np.arange(rows)[:, None] / camera.horizon_px, np.arange(camera.width) / camera.width
    stretch = rng.uniform(40, 90) / (np.maximum(1 - y, 0) + 0.22)
    noise = sample_noise(1.9, (x - 0.5) * stretch * 1.6 + rng.uniform(0, 512), stretch * 0.9 + rng.uniform(0, 512))
    cloud = np.clip((noise - (1 - light.cloud_cover)) / rng.uniform(0.08, 0.2), 0, 1)[..., None] * 0.85
    puff = np.minimum(light.sky_low * 0.55 + 125, 255) * (1 - 0.22 * np.clip(noise * 2 - 0.9, 0, 1))[..., None]
    sun_x, sun_y = rng.uniform((0, 0.2), (1, 1))
    glow = 0.55 * light.sun_strength * np.exp(-5 * ((x - sun_x) ** 2 + (y - sun_y) ** 2))[..., None]
    sky = light.sky_top + (light.sky_low - light.sky_top) * np.clip(y, 0, 1)[..., None] ** 1.3
    sky = sky + (puff - sky) * cloud
    canvas.image[:rows] = np.clip(sky + ((255, 240, 205) - sky) * glow, 0, 255)
    canvas.labels[:] = SKY


def draw_ground(canvas: Canvas, street: Street, things: list[Thing], rng: np.random.Generator) -> None:
    """Paint road and pavement below the horizon, with the shadows of things."""
    camera = canvas.camera
    top = min(int(camera.horizon_px) + 1, camera.height)
    below = np.maximum(np.arange(top, camera.height)[:, None] - camera.horizon_px, 0.2)
    depth = camera.focal_px * camera.eye_m / below
    pixel_m = depth / camera.focal_px
    u, v = camera.street((np.arange(camera.width) - camera.center_px) * pixel_m, depth)
    wear = rng.uniform(0, 512, 2)
    grain = sample_noise(0.6, u * 28 + wear[0], v * 9 + wear[1]) - 0.5
    patches = sample_noise(1.6, u * 6 + wear[1], v * 3 + wear[0]) - 0.5
    paint = _markings(u, v, pixel_m, street)[..., None]
    kerb = 0.7 * (_line(u - street.left_m, pixel_m, 0.25) + _line(u - street.right_m, pixel_m, 0.25))[..., None]
    asphalt = street.road * (1 + 0.35 * grain * np.minimum(0.05 / pixel_m, 1) + 0.30 * patches)[..., None]
    stone = street.pavement * (1 + _slabs(u, v, pixel_m, street.slab_m) + 0.12 * patches)[..., None]
    on_road = (u > street.left_m) & (u < street.right_m)
    ground = np.where(on_road[..., None], asphalt + (225 - asphalt) * paint, stone + (205 - stone) * kerb)
    shaded = ground * _shadows(canvas, things)[top:, :, None]
    canvas.image[top:] = np.clip(canvas.light.hazed(shaded, depth[..., None]), 0, 255)
    canvas.labels[top:] = np.where(on_road, ROAD, PAVEMENT)


def _line(across: Floats, pixel_m: Floats, half_m: float) -> Floats:
    """Share of each pixel, 0 to 1, that a line of this half width covers."""
    return np.asarray(np.clip((half_m - np.abs(across)) / pixel_m + 0.5, 0, 1) * np.minimum(2 * half_m / pixel_m, 1))


def _slabs(u: Floats, v: Floats, pixel_m: Floats, slab_m: float) -> Floats:
    """Joints and uneven tones of paving slabs, around 0; they fade in the distance, where they would alias."""
    column, row = u / slab_m, v / slab_m
    joint = np.minimum(np.abs(column - np.rint(column)), np.abs(row - np.rint(row))) * slab_m
    tone = 0.32 * np.mod(np.floor(column) * 7 + np.floor(row) * 3, 5) / 5 - 0.13
    return np.asarray((tone - 0.45 * (joint < 0.04)) * np.clip(0.5 * slab_m / pixel_m - 0.5, 0, 1))


def _markings(u: Floats, v: Floats, pixel_m: Floats, street: Street) -> Floats:
    """Share of each pixel that is white paint: edge lines, dashes between lanes, a zebra crossing."""
    paint = _line(u - street.left_m - 0.35, pixel_m, 0.07) + _line(u - street.right_m + 0.35, pixel_m, 0.07)
    for border in np.linspace(street.left_m, street.right_m, street.lanes + 1)[1:-1]:
        paint += _line(u - border, pixel_m, 0.08) * (np.mod(v, 6.0) < 3.2)
    if street.crossing_m is not None:
        beyond = np.abs(v - street.crossing_m)
        paint = np.where(beyond < 2.4, (np.mod(u - street.left_m, 1.1) < 0.55) & (beyond < 1.8), paint)
    return np.asarray(np.minimum(paint, 1) * 0.85)


def _shadows(canvas: Canvas, things: list[Thing]) -> Floats:
    """(H, W) brightness of the ground under things and in their shadows."""
    camera, light = canvas.camera, canvas.light
    lit = np.full((camera.height, camera.width), 255, np.uint8)
    for thing in things:
        foot = thing.footprint()
        reach = light.sun * light.shadow_slope * light.sun_strength * min(thing.height_m, 9.0)
        hull = cv2.convexHull(np.concatenate([foot, foot - reach]).astype(np.float32))[:, 0].astype(np.float64)
        view = clip_near(camera.view(np.insert(hull, 2, 0.0, axis=1)))
        if len(view):
            cv2.fillPoly(lit, [np.rint(camera.pixels(view)).astype(np.int32)], (0,))
    blur = max(3, camera.height // 60) | 1
    return np.asarray(1 - (0.35 + 0.2 * light.sun_strength) * (1 - cv2.blur(lit, (blur, blur)) / 255))


def draw_horizon(canvas: Canvas, rng: np.random.Generator) -> None:
    """Close the view at the horizon with a wood or with far buildings."""
    camera, wooded, level = canvas.camera, rng.random() < 0.5, rng.uniform(0.07, 0.13) * canvas.camera.height
    color = np.array((72, 104, 62)) if wooded else rng.uniform(100, 150) + rng.uniform(-15, 15, 3)
    width, foot, turn = camera.width / 24, camera.horizon_px + 1.5, np.linspace(np.pi, 2 * np.pi, 11)
    outline = np.column_stack([0.5 + 0.8 * np.cos(turn), np.sin(turn)]) if wooded else rectangles(0, 1, -1, 0)[0]
    for index, (height, tone) in enumerate(rng.uniform((0.4, 0.85), (1.0, 1.15), (24, 2))):
        shape = outline * (width, level * height) + (index * width, foot)
        canvas.paint(shape[None], canvas.light.hazed(color * tone, 45), label=TREE if wooded else BUILDING)
