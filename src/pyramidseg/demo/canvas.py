"""Pinhole camera, light and canvas of the synthetic scenes; the canvas paints image and labels together.

Street coordinates are metres (u, v, up): u across the street, v along it, up from the ground; the camera is above
(0, 0). Colours are RGB from 0 to 255.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Rgb = Sequence[float] | Floats

NEAR_M = 0.6
"""Polygons are cut off at this depth: a point behind the eye has no projection."""

SUBPIXEL_BITS = 4
"""Fractional bits of the polygon corners that OpenCV gets."""


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

    def street(self, right: ArrayLike, depth: ArrayLike) -> tuple[Floats, Floats]:
        """Street coordinates u and v of points right of the camera and at a depth, in metres."""
        right, depth = np.asarray(right), np.asarray(depth)
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return right * cos + depth * sin, depth * cos - right * sin

    def view(self, points: Floats) -> Floats:
        """Convert (..., 3) street points to right, down and depth from the eye, in metres."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        view: Floats = points @ np.array([[cos, 0.0, sin], [-sin, 0.0, cos], [0.0, -1.0, 0.0]])
        view[..., 1] += self.eye_m
        return view

    def pixels(self, view: Floats) -> Floats:
        """Project (..., 3) points from `view` to (..., 2) x and y in pixels."""
        projected: Floats = view[..., :2] * (self.focal_px / view[..., 2:]) + (self.center_px, self.horizon_px)
        return projected

    def sees(self, footprint: Floats, *, margin_m: float = 0.0) -> bool:
        """Whether something that covers (corners, 2) u and v of the ground can be in the image."""
        right, _, depth = self.view(np.insert(footprint, 2, 0.0, axis=1)).T
        x = right * self.focal_px + self.center_px * np.maximum(depth, 0.0)
        reach = margin_m * self.focal_px
        return bool((depth > 1).any() and (x > -reach).any() and (x - reach < self.width * np.maximum(depth, 0)).any())


@dataclass(frozen=True)
class Light:
    """Time of day and weather.

    Attributes:
        sun: horizontal street direction towards the sun.
        sun_strength: 0 under clouds, about 1 in full sun.
        shadow_slope: metres of shadow per metre of height.
        haze: colour of distant things; two thirds of their own colour are lost at `haze_range_m`.
        lamps: whether windows and lamps are lit.
    """

    sun: Floats
    sun_strength: float
    shadow_slope: float
    haze: Floats
    haze_range_m: float
    sky_top: Floats
    sky_low: Floats
    cloud_cover: float
    lamps: bool

    def shade(self, normal: ArrayLike) -> float:
        """Brightness of an upright surface with a horizontal normal."""
        return 1.0 + self.sun_strength * (0.6 * max(0.0, float(np.dot(normal, self.sun))) - 0.30)

    def hazed(self, color: ArrayLike, depth_m: ArrayLike) -> Floats:
        """Colours as they look from a distance; the shapes broadcast."""
        clear = np.exp(-np.asarray(depth_m) / self.haze_range_m)
        return np.asarray(np.minimum(color, 255.0) * clear + self.haze * (1 - clear))


class Canvas:
    """An image and its labels; polygons that are painted with a label cover both."""

    def __init__(self, camera: Camera, light: Light) -> None:
        self.camera = camera
        self.light = light
        self.image = np.zeros((camera.height, camera.width, 3), np.uint8)
        self.labels = np.zeros((camera.height, camera.width), np.uint8)

    def fill(self, polygons: Floats, color: Rgb, *, label: int | None = None) -> None:
        """Paint (N, corners, 3) polygons of street points, which must not overlap each other.

        One that reaches behind the camera is cut off if it is the only one, else left out.
        """
        view = self.camera.view(polygons)
        view = clip_near(view[0])[None] if len(view) == 1 else view[view[..., 2].min(1) >= NEAR_M]
        if view.size:
            self.paint(
                self.camera.pixels(view), self.light.hazed(color, (view[0, 0, 2] + view[0, 2, 2]) / 2), label=label
            )

    def paint(self, polygons: Floats, color: Floats, *, label: int | None = None) -> None:
        """Paint (N, corners, 2) polygons in pixels: antialiased in the image, exact in the labels."""
        corners = list(np.rint(polygons * (1 << SUBPIXEL_BITS)).astype(np.int32))
        cv2.fillPoly(self.image, corners, color.tolist(), cv2.LINE_AA, SUBPIXEL_BITS)
        if label is not None:
            cv2.fillPoly(self.labels, corners, (label,), cv2.LINE_8, SUBPIXEL_BITS)


def clip_near(view: Floats) -> Floats:
    """Part of a convex (corners, 3) polygon in front of the camera; (0, 3) if there is none."""
    if (view[:, 2] >= NEAR_M).all():
        return view
    kept: list[Floats] = []
    for before, corner in zip(view[[-1, *range(len(view) - 1)]], view, strict=True):
        if (before[2] < NEAR_M) != (corner[2] < NEAR_M):
            kept.append(before + (corner - before) * ((NEAR_M - before[2]) / (corner[2] - before[2])))
        if corner[2] >= NEAR_M:
            kept.append(corner)
    return np.array(kept).reshape(-1, 3)


def rectangles(left: ArrayLike, right: ArrayLike, low: ArrayLike, high: ArrayLike) -> Floats:
    """(N, 4, 2) corners of rectangles; each side is a number or an array of N."""
    corners = np.empty((np.broadcast(left, right, low, high).size, 4, 2))
    for index, (x, y) in enumerate(((left, low), (right, low), (right, high), (left, high))):
        corners[:, index, 0], corners[:, index, 1] = x, y
    return corners


@cache
def noise_tile(roughness: float) -> NDArray[np.float32]:
    """(512, 512) noise in [0, 1] that repeats seamlessly; its amplitude falls with frequency ** roughness."""
    spectrum = np.fft.rfft2(np.random.default_rng(0).standard_normal((512, 512)))
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)) * 512
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum * (frequency + 4.0) ** -roughness, (512, 512))
    return np.asarray(np.clip(0.5 + noise / (5 * noise.std()), 0, 1), np.float32)


def sample_noise(roughness: float, x: Floats, y: Floats) -> Floats:
    """Noise at any coordinates, which broadcast; its period is 512."""
    places = [np.asarray(at - 512 * np.floor(at / 512), np.float32) for at in np.broadcast_arrays(x, y)]
    noise = cv2.remap(noise_tile(roughness), places[0], places[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return np.asarray(noise, np.float64)
