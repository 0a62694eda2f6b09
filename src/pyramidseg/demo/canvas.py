"""What the made scenes are drawn with: a pinhole camera, a light, and a canvas that paints pixels and labels alike.

Street coordinates are metres (u, v, up): u across the street, v along it, up from the ground; the camera stands above
(0, 0). Colours are RGB from 0 to 255.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Floats32 = NDArray[np.float32]
Rgb = Sequence[float] | Floats

NEAR_M = 0.6
"""Nothing nearer than this is drawn: the image plane has to lie in front of the eye."""

SUBPIXEL_BITS = 4
"""OpenCV takes polygon corners as fixed-point numbers."""


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks horizontally, turned by `yaw` radians from along the street towards +u."""

    width: int
    height: int
    focal_px: float
    center_px: float
    horizon_px: float
    eye_m: float
    yaw: float

    def view(self, points: Floats) -> Floats:
        """(..., 3) street points to (..., 3) right, down and depth from the eye, in metres."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        turn = np.array([[cos, 0.0, sin], [-sin, 0.0, cos], [0.0, -1.0, 0.0]])
        view: Floats = points @ turn
        view[..., 1] += self.eye_m
        return view

    def pixels(self, view: Floats) -> Floats:
        """(..., 3) points from `view` to (..., 2) x and y in pixels."""
        pixels: Floats = view[..., :2] * (self.focal_px / view[..., 2:])
        pixels += (self.center_px, self.horizon_px)
        return pixels

    def street(self, right: float, depth: float) -> tuple[float, float]:
        """The street position (u, v) of a place on the ground seen from the camera."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return right * cos + depth * sin, depth * cos - right * sin

    def sees(self, footprint: Floats, *, margin_m: float = 0.0) -> bool:
        """Whether something with that footprint, (corners, 2) in u and v, can be in the image."""
        view = self.view(np.column_stack([footprint, np.zeros(len(footprint))]))
        reach = np.maximum(view[:, 2], 0.0) / self.focal_px
        left, right = -self.center_px * reach - margin_m, (self.width - self.center_px) * reach + margin_m
        return bool((view[:, 2] > 1.0).any() and (view[:, 0] < right).any() and (view[:, 0] > left).any())

    def ground(self) -> tuple[int, Floats32, Floats32, Floats32]:
        """The first row below the horizon, and for the rows from there on u, v (rows, W) and depth (rows, 1)."""
        top = min(max(math.floor(self.horizon_px) + 1, 0), self.height)
        rows = np.arange(top, self.height, dtype=np.float32)[:, None]
        depth = np.float32(self.focal_px * self.eye_m) / np.maximum(rows - np.float32(self.horizon_px), np.float32(0.2))
        columns = np.arange(self.width, dtype=np.float32) - np.float32(self.center_px)
        right = columns * (depth / np.float32(self.focal_px))
        cos, sin = np.float32(math.cos(self.yaw)), np.float32(math.sin(self.yaw))
        return top, right * cos + depth * sin, depth * cos - right * sin, depth


@dataclass(frozen=True)
class Light:
    """Time of day and weather.

    `sun` is the horizontal street direction towards the sun, `sun_slope` the metres of shadow a metre of height throws,
    `haze_range_m` the distance at which two thirds of a colour are lost in `haze`; `lamps` are lit at dusk.
    """

    sun: tuple[float, float]
    sun_strength: float
    sun_slope: float
    haze: tuple[float, float, float]
    haze_range_m: float
    sky_top: tuple[float, float, float]
    sky_low: tuple[float, float, float]
    cloud_cover: float
    lamps: bool

    def shade(self, normal_u: float, normal_v: float) -> float:
        """Brightness of an upright surface with this normal."""
        facing = max(0.0, normal_u * self.sun[0] + normal_v * self.sun[1])
        return 1.0 + self.sun_strength * (0.6 * facing - 0.30)

    def hazed(self, color: Rgb, depth_m: float) -> tuple[float, float, float]:
        """The colour as seen through that much air."""
        clear = math.exp(-depth_m / self.haze_range_m)
        near = np.minimum(color, 255.0) * clear
        red, green, blue = (near + np.multiply(self.haze, 1 - clear)).tolist()
        return red, green, blue


class Canvas:
    """An image and its labels; whatever is painted with a label covers both."""

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        self.image = np.zeros((camera.height, camera.width, 3), np.uint8)
        self.labels = np.zeros((camera.height, camera.width), np.uint8)

    def fill(self, polygons: Floats, color: Rgb, *, label: int | None = None) -> None:
        """Paint polygons of street points, (N, corners, 3) or (corners, 3), that do not overlap each other.

        What reaches behind the camera is cut off where it is a single polygon, and left out where there are many.
        """
        view = self.camera.view(polygons)
        view = view[view[..., 2].min(1) >= NEAR_M] if view.ndim == 3 else clip_near(view)[None]
        if view.size:
            depth_m = float(view[0, 0, 2] + view[0, 2, 2]) / 2
            self.paint(self.camera.pixels(view), self.light.hazed(color, depth_m), label=label)

    def paint(self, pixels: Floats, color: tuple[float, float, float], *, label: int | None = None) -> None:
        """Paint (N, corners, 2) polygons given in pixels: smooth edges in the image, exact ones in the labels."""
        corners = list(np.rint(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32))
        cv2.fillPoly(self.image, corners, color, cv2.LINE_AA, SUBPIXEL_BITS)
        if label is not None:
            cv2.fillPoly(self.labels, corners, (label,), cv2.LINE_8, SUBPIXEL_BITS)

    def spans_px(self, polygon: Floats) -> float:
        """How many columns of the image the polygon reaches across; 0 where it lies outside."""
        view = clip_near(self.camera.view(polygon))
        if not len(view):
            return 0.0
        x = np.clip(self.camera.pixels(view)[:, 0], 0, self.camera.width)
        return float(x.max() - x.min())

    def size_px(self, length_m: float, depth_m: float) -> float:
        """How long something of that length is in the image."""
        return length_m * self.camera.focal_px / depth_m


def clip_near(view: Floats) -> Floats:
    """The part of a convex (corners, 3) polygon in front of the camera; (0, 3) where there is none."""
    inside = view[:, 2] >= NEAR_M
    if inside.all():
        return view
    kept: list[Floats] = []
    for index, corner in enumerate(view):
        before = view[index - 1]
        if inside[index] != inside[index - 1]:
            kept.append(before + (corner - before) * ((NEAR_M - before[2]) / (corner[2] - before[2])))
        if inside[index]:
            kept.append(corner)
    return np.array(kept) if kept else np.empty((0, 3))


@cache
def noise_tile(roughness: float) -> Floats32:
    """(512, 512) float32 noise in [0, 1] that repeats seamlessly; its amplitude falls with frequency ** roughness."""
    size = 512
    spectrum = np.fft.rfft2(np.random.default_rng(0).standard_normal((size, size)))
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]) * size
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum * (frequency + 4.0) ** -roughness, (size, size))
    tile: Floats32 = np.clip(0.5 + noise / (5 * noise.std()), 0, 1).astype(np.float32)
    tile.setflags(write=False)
    return tile


def stretch_noise(
    roughness: float, shape: tuple[int, int], *, scale: tuple[float, float], offset: tuple[float, float]
) -> Floats32:
    """(rows, columns) of noise; pixel (x, y) shows the tile at scale * (x, y) + offset."""
    place = np.array([[scale[0], 0, offset[0] % 512], [0, scale[1], offset[1] % 512]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(noise_tile(roughness), place, shape[::-1], flags=flags, borderMode=cv2.BORDER_WRAP)
    return np.asarray(warped, np.float32)


def sample_noise(roughness: float, x: Floats32, y: Floats32) -> Floats32:
    """Noise at any coordinates; 512 of them make one period."""
    tile = noise_tile(roughness)
    size = np.float32(len(tile))
    x, y = (at - size * np.floor(at / size) for at in (x, y))  # np.mod takes three times as long
    return np.asarray(cv2.remap(tile, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP), np.float32)
