"""Camera, weather and canvas of the synthetic scenes; what is painted with a label covers image and labels.

Street coordinates are metres (u, v, up): u across the street, v along it, up from the ground; the camera is above
(0, 0) and looks horizontally. Colours are RGB from 0 to 255.
"""

import math
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

NEAR_M = 0.6
"""Polygons that reach nearer to the camera are left out: a point behind the eye has no projection."""

SUBPIXEL_BITS = 4
"""Fractional bits of the polygon corners that OpenCV gets."""

WEATHER = (
    ((72, 130, 205), (190, 215, 235), 1.0, 260, 0.50, False),  # clear day
    ((96, 150, 215), (225, 225, 215), 0.8, 150, 0.62, False),  # hazy sun
    ((150, 160, 172), (205, 208, 210), 0.0, 130, 0.75, False),  # overcast
    ((185, 190, 195), (218, 220, 220), 0.1, 55, 0.55, False),  # mist
    ((98, 112, 165), (250, 190, 130), 0.75, 150, 0.58, False),  # evening sun
    ((44, 56, 104), (200, 150, 150), 0.15, 140, 0.58, True),  # dusk
)
"""Sky at its top and at the horizon, sunlight (0 to 1), metres at which two thirds of a colour are lost in haze, share
of the sky under clouds, and whether windows are lit."""


class Canvas:
    """Image (H, W, 3) and labels (H, W) of what a camera sees that is turned by `yaw` radians towards +u."""

    def __init__(self, height: int, width: int, yaw: float, rng: np.random.Generator) -> None:
        self.height, self.width = height, width
        self.focal_px = rng.uniform(0.85, 1.15) * math.sqrt(width * height)
        self.center_px, self.horizon_px = rng.uniform((0.35, 0.34), (0.65, 0.56)) * (width, height)
        self.eye_m = rng.uniform(1.8, 3.0)
        self.right, self.ahead = np.array([(math.cos(yaw), -math.sin(yaw)), (math.sin(yaw), math.cos(yaw))])
        lens = np.array([(self.focal_px, 0, 0), (self.center_px, self.horizon_px, 1), (0, -self.focal_px, 0)])
        self.projection = np.array([*np.stack([self.right, self.ahead, (0, 0)], 1), (0, 0, 1)]) @ lens
        top, low, sunlight, haze_m, clouds, self.lamps = WEATHER[rng.choice(6, p=[0.26, 0.2, 0.18, 0.1, 0.14, 0.12])]
        self.sky = np.array((top, low)) * rng.uniform(0.95, 1.05, 3)
        self.sunlight, self.haze_m, self.clouds = rng.uniform(0.7, (1.1, 1.4, 1.2)) * (sunlight, haze_m, clouds)
        bearing = rng.uniform(0, 2 * math.pi)
        self.to_sun = np.array((math.cos(bearing), math.sin(bearing)))
        self.image, self.labels = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)

    def project(self, points: Floats) -> Floats:
        """Homogeneous pixels, (..., 3) x * depth, y * depth and depth in metres, of (..., 3) street points."""
        return np.asarray((points - (0, 0, self.eye_m)) @ self.projection)

    def foot(self, u: float, v: float) -> tuple[float, float, float]:
        """Pixel x and y of a place on the ground, and its depth in metres."""
        x, y, depth = self.project(np.array((u, v, 0.0))).tolist()
        return x / depth, y / depth, depth

    def hazed(self, color: ArrayLike, depth_m: ArrayLike) -> Floats:
        """Colours as they look from a distance; the shapes broadcast."""
        clear = np.exp(-np.asarray(depth_m) / self.haze_m)
        return np.asarray(np.clip(color, 0, 255) * clear + self.sky[1] * (1 - clear))

    def paint(self, polygons: Floats, color: ArrayLike, depth_m: float, label: int | None = None) -> None:
        """Paint (N, corners, 2) polygons in pixels: antialiased in the image, exact in the labels."""
        corners = list(np.rint(polygons * (1 << SUBPIXEL_BITS)).astype(np.int32))
        cv2.fillPoly(self.image, corners, self.hazed(color, depth_m).tolist(), cv2.LINE_AA, SUBPIXEL_BITS)
        if label is not None:
            cv2.fillPoly(self.labels, corners, (label,), cv2.LINE_8, SUBPIXEL_BITS)


class Face(NamedTuple):
    """A flat side of a box, lengths in metres, with its corners in homogeneous pixels, (4, 3), and its brightness.

    It faces -v (`way` 0), +u (1), +v (2), -u (3) or up (4).
    """

    canvas: Canvas
    way: int
    corners: Floats
    width: float
    height: float
    shade: float

    def paint(self, shapes: Floats, color: ArrayLike, label: int | None = None) -> None:
        """Paint (N, corners, 2) shapes, in metres from the bottom left."""
        x, y = shapes[..., :1] / self.width, shapes[..., 1:] / self.height
        low, high = (a + x * (b - a) for a, b in (self.corners[:2], self.corners[:1:-1]))
        pixels = low + y * (high - low)
        pixels = pixels[pixels[..., 2].min(1) > NEAR_M]
        if len(pixels):
            self.canvas.paint(pixels[..., :2] / pixels[..., 2:], np.multiply(color, self.shade), pixels[0, 0, 2], label)


def box_faces(canvas: Canvas, bottom: Floats, top: Floats, low_m: float, high_m: float) -> Iterator[Face]:
    """Faces of a box that the camera sees; `bottom` and `top` are its (2, 2) extents ((u, u), (v, v))."""
    below, above = outline(bottom, low_m), outline(top, high_m)
    for way in range(5):
        corners = above if way == 4 else np.array([below[way], below[way - 3], above[way - 3], above[way]])
        across, up = corners[1] - corners[0], corners[3] - corners[0]
        normal = across[[1, 2, 0]] * up[[2, 0, 1]] - across[[2, 0, 1]] * up[[1, 2, 0]]  # faster than numpy.cross
        if normal @ ((0, 0, canvas.eye_m) - corners[0]) > 0:
            area, width, height = (math.hypot(*vector) for vector in (normal, across, up))
            sunny = 0.6 * max(canvas.to_sun @ normal[:2], 0.0) + 0.55 * normal[2]
            yield Face(canvas, way, canvas.project(corners), width, height, 1 + canvas.sunlight * (sunny / area - 0.3))


def outline(extent: Floats, up: float = 0.0) -> Floats:
    """(4, 3) street points of the corners of a (2, 2) extent ((u, u), (v, v))."""
    (u0, u1), (v0, v1) = extent.tolist()
    return np.array([(u0, v0, up), (u1, v0, up), (u1, v1, up), (u0, v1, up)])


def rectangles(left: ArrayLike, right: ArrayLike, low: ArrayLike, high: ArrayLike) -> Floats:
    """(N, 4, 2) corners of rectangles; each side is a number or an array of N."""
    sides = np.empty((np.broadcast(left, right, low, high).size, 4))
    for index, side in enumerate((left, right, low, high)):
        sides[:, index] = side
    return sides[:, [[0, 2], [1, 2], [1, 3], [0, 3]]]


@cache
def noise_tile(roughness: float) -> NDArray[np.float32]:
    """(512, 512) noise in [0, 1] that repeats seamlessly; its amplitude falls with frequency ** roughness."""
    spectrum = np.fft.rfft2(np.random.default_rng(0).standard_normal((512, 512)))
    frequency = np.hypot(np.fft.fftfreq(512)[:, None], np.fft.rfftfreq(512)) * 512
    noise = np.fft.irfft2(spectrum * (frequency + 4.0) ** -roughness, (512, 512))
    return np.asarray(np.clip(0.5 + noise / (5 * noise.std()), 0, 1), np.float32)


def sample(tile: NDArray[np.float32], x: Floats, y: Floats) -> Floats:
    """Values of a (512, 512) tile, which repeats, at any coordinates, which broadcast."""
    x, y = (np.mod(at, 512).astype(np.float32) for at in np.broadcast_arrays(x, y))
    return cv2.remap(tile, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP).astype(np.float64)
