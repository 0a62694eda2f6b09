"""The backdrop of the made scenes: sky with clouds, road with markings, pavement with slabs, and shadows on them."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.demo.canvas import Canvas, Floats, Floats32, clip_near, sample_noise

SKY, ROAD, PAVEMENT = 0, 1, 2


@dataclass(frozen=True)
class Street:
    """Where the road lies, in metres across the street, and what is painted on it."""

    left_m: float
    right_m: float
    pavement_m: float
    lanes: int
    crossing_m: float | None
    road: tuple[float, float, float]
    pavement: tuple[float, float, float]
    slab_m: float

    @property
    def walls_m(self) -> tuple[float, float]:
        """Where the houses begin on either side."""
        return self.left_m - self.pavement_m, self.right_m + self.pavement_m

    def lane_centers_m(self) -> list[float]:
        """The middle of each lane, from left to right."""
        lane = (self.right_m - self.left_m) / self.lanes
        return [self.left_m + lane * (index + 0.5) for index in range(self.lanes)]


def draw_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Fill the whole image with sky: a gradient, the sun's glow, and clouds on a flat ceiling."""
    camera, light = canvas.camera, canvas.light
    offset_x, offset_y, ceiling = rng.uniform((0, 0, 40), (512, 512, 90)).tolist()
    glow_x, glow_y, softness = rng.uniform(0, 1), rng.uniform(0.2, 1), rng.uniform(0.08, 0.2)
    rows = min(math.ceil(camera.horizon_px) + 1, camera.height)
    y = np.arange(rows, dtype=np.float32)[:, None] / np.float32(camera.horizon_px)
    x = np.arange(camera.width, dtype=np.float32)[None] / np.float32(camera.width)
    blend = np.clip(y, 0, 1) ** np.float32(1.3)
    elevation = np.maximum(1 - y, 0) + np.float32(0.22)
    stretch = np.float32(ceiling) / elevation
    noise = sample_noise(
        1.9, (x - 0.5) * stretch * 1.6 + np.float32(offset_x), stretch * 0.9 + 0 * x + np.float32(offset_y)
    )
    cloud = np.clip((noise - np.float32(1 - light.cloud_cover)) / np.float32(softness), 0, 1)
    body = np.clip((noise - np.float32(0.45)) * 2, 0, 1)
    glow = np.exp(-5 * (x - np.float32(glow_x)) ** 2) * np.exp(-5 * (y - np.float32(glow_y)) ** 2)
    glow = glow * np.float32(0.55 * light.sun_strength)
    top, low = np.array(light.sky_top, np.float32), np.array(light.sky_low, np.float32)
    lit = np.minimum(low * np.float32(0.55) + np.float32(125), 255)
    for channel in range(3):
        plain = top[channel] + (low[channel] - top[channel]) * blend
        puff = lit[channel] * (1 - np.float32(0.22) * body)
        plain = plain + (puff - plain) * cloud * np.float32(0.85)
        plain = plain + (np.float32((255, 240, 205)[channel]) - plain) * glow
        canvas.image[: len(y), :, channel] = np.clip(plain, 0, 255)
    canvas.labels[:] = SKY


def draw_ground(canvas: Canvas, street: Street, shadow: Floats32, rng: np.random.Generator) -> None:
    """Paint road and pavement below the horizon; `shadow` (H, W) multiplies their brightness."""
    camera, light = canvas.camera, canvas.light
    top, u, v, depth = camera.ground()
    pixel_m = depth / np.float32(camera.focal_px)
    wear = rng.uniform(0, 512, 2)
    is_road = (u > street.left_m) & (u < street.right_m)
    grain = sample_noise(0.6, u * 28 + np.float32(wear[0]), v * 9 + np.float32(wear[1])) - np.float32(0.5)
    patches = sample_noise(1.6, u * 6 + np.float32(wear[1]), v * 3 + np.float32(wear[0])) - np.float32(0.5)
    far = np.minimum(np.float32(0.05) / pixel_m, 1)
    road = 1 + grain * np.float32(0.35) * far + patches * np.float32(0.30)
    slabs = 1 + _slabs(u, v, pixel_m, street.slab_m) + patches * np.float32(0.12)
    paint = _markings(u, v, pixel_m, street)
    kerb = _band(u - street.left_m, pixel_m, 0.25) + _band(u - street.right_m, pixel_m, 0.25)
    clear = np.exp(-depth / np.float32(light.haze_range_m))
    for channel in range(3):
        asphalt = street.road[channel] * road
        asphalt = asphalt + (np.float32(225) - asphalt) * paint
        stone = street.pavement[channel] * slabs
        stone = stone + (np.float32(205) - stone) * np.minimum(kerb, 1) * np.float32(0.7)
        tone = np.where(is_road, asphalt, stone) * shadow[top:]
        canvas.image[top:, :, channel] = np.clip(tone * clear + np.float32(light.haze[channel]) * (1 - clear), 0, 255)
    canvas.labels[top:] = np.where(is_road, ROAD, PAVEMENT)


def _band(across: Floats32, pixel_m: Floats32, half_m: float) -> Floats32:
    """How much of each pixel a line of that half width covers, 0 to 1."""
    inside = np.clip((np.float32(half_m) - np.abs(across)) / pixel_m + np.float32(0.5), 0, 1)
    return np.asarray(inside * np.minimum(np.float32(2 * half_m) / pixel_m, 1), np.float32)


def _slabs(u: Floats32, v: Floats32, pixel_m: Floats32, slab_m: float) -> Floats32:
    """Joints and uneven tones of paving slabs, around 0; far away they fade, as they would alias."""
    column, row = u / np.float32(slab_m), v / np.float32(slab_m)
    nearest = np.minimum(np.abs(column - np.rint(column)), np.abs(row - np.rint(row))) * np.float32(slab_m)
    joint = np.clip((np.float32(0.035) - nearest) / pixel_m + np.float32(0.5), 0, 1)
    tone = np.mod(np.rint(column - 0.5) * 7 + np.rint(row - 0.5) * 3, 5) / 5 - np.float32(0.4)
    fade = np.clip(np.float32(0.5 * slab_m) / pixel_m - np.float32(0.5), 0, 1)
    return np.asarray((tone * np.float32(0.32) - joint * np.float32(0.45)) * fade, np.float32)


def _markings(u: Floats32, v: Floats32, pixel_m: Floats32, street: Street) -> Floats32:
    """How much of each pixel is white paint: edge lines, dashes between lanes, a zebra crossing."""
    lane = (street.right_m - street.left_m) / street.lanes
    dashed = np.mod(v, 6.0) < 3.2
    paint = _band(u - street.left_m - np.float32(0.35), pixel_m, 0.07) + _band(
        u - street.right_m + np.float32(0.35), pixel_m, 0.07
    )
    for index in range(1, street.lanes):
        paint = paint + _band(u - np.float32(street.left_m + index * lane), pixel_m, 0.08) * dashed
    if street.crossing_m is not None:
        stripes = (np.mod(u - street.left_m, 1.1) < 0.55) & (np.abs(v - street.crossing_m) < 1.8)
        paint = np.where(np.abs(v - street.crossing_m) < 2.4, stripes, paint)
    return np.asarray(np.minimum(paint, 1) * 0.85, np.float32)


def shadow_map(canvas: Canvas, footprints: list[tuple[Floats, float]]) -> Floats32:
    """(H, W) brightness of the ground under things of a given footprint, (corners, 2) in u and v, and height."""
    camera, light = canvas.camera, canvas.light
    sunlit = np.full((camera.height, camera.width), 255, np.uint8)
    open_sky = sunlit.copy()
    reach = np.array(light.sun) * -light.sun_slope
    for footprint, height_m in footprints:
        _cover(canvas, open_sky, footprint)
        if light.sun_strength > 0:
            _cover(canvas, sunlit, np.concatenate([footprint, footprint + reach * min(height_m, 9.0)]))
    blur = max(3, camera.height // 40) | 1
    bright = 1 - 0.45 * light.sun_strength * (1 - np.arange(256) / 255)
    dim = 0.55 + 0.45 * np.arange(256) / 255
    direct = bright.astype(np.float32)[cv2.blur(sunlit, (blur // 2, blur // 2))]
    return np.asarray(direct * dim.astype(np.float32)[cv2.blur(open_sky, (blur, blur))], np.float32)


def _cover(canvas: Canvas, mask: NDArray[np.uint8], points: Floats) -> None:
    """Set the mask to 0 under the hull of (N, 2) ground points."""
    hull = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    view = clip_near(canvas.camera.view(np.column_stack([hull, np.zeros(len(hull))])))
    if len(view):
        corners = np.rint(canvas.camera.pixels(view)).astype(np.int32)
        cv2.fillPoly(mask, [corners], (0,))


def skyline(canvas: Canvas, rng: np.random.Generator, *, building: int, tree: int) -> None:
    """Close the view at the horizon with far houses, or with a wood."""
    camera, light = canvas.camera, canvas.light
    heights, wooded, level = rng.uniform(0.4, 1.0, 24), rng.random() < 0.5, rng.uniform(0.07, 0.13)
    color = np.array((72, 104, 62) if wooded else rng.uniform(100, 150) + rng.uniform(-15, 15, 3))
    foot = camera.horizon_px + 0.012 * camera.height
    step = camera.width / 16
    for index, height in enumerate(heights[:17]):
        left, top = (index - 0.5) * step, foot - height * level * camera.height
        shade = color * (0.8 + 0.4 * heights[-1 - index % 7])
        if wooded:
            angle = np.linspace(0, 2 * math.pi, 20)[:-1]
            ring = np.column_stack([left + step / 2 + 0.8 * step * np.cos(angle), foot + (top - foot) * np.sin(angle)])
            ring[:, 1] = np.minimum(ring[:, 1], foot)
            canvas.paint(ring[None], light.hazed(shade, 45.0), label=tree)
        else:
            box = np.array([[left, top], [left + step, top], [left + step, foot], [left, foot]])
            canvas.paint(box[None], light.hazed(shade, 45.0), label=building)
            grid = np.arange(1, 5)[:, None, None] * [[step / 5, 0]] + np.arange(1, 4)[None, :, None] * [
                [0, (foot - top) / 4]
            ]
            panes = np.array([[0, 0], [0.1, 0], [0.1, 0.1], [0, 0.1]]) * [step, foot - top]
            panes = panes + (grid.reshape(-1, 1, 2) + box[0] - [0.05 * step, 0])
            canvas.paint(panes, light.hazed(shade * 0.6, 45.0))
