"""Cars and buses of the synthetic scenes: a side profile extruded to a body in perspective."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from pyramidseg.demo.canvas import Canvas, Floats, Rgb, rectangles
from pyramidseg.demo.things import BUS, CAR, Thing, any_color, around

DARK = (30, 30, 32)

CAR_GLASS = (3, 5)
"""Segments of a car's profile that are rear window and windscreen."""


@dataclass(frozen=True, kw_only=True)
class Vehicle(Thing):
    """A car or a bus of any colour: a body that is symmetrical about its middle.

    Attributes:
        heading: 1 if it drives towards +v, else -1.
        profile: (points, 2) metres forward from the middle and up, from the rear over the roof to the front.
    """

    heading: int
    bus: bool
    profile: Floats

    def draw(self, canvas: Canvas, rng: np.random.Generator) -> None:
        paint, stripe = any_color(rng, low=60 if self.bus else 35, saturation=0.7), any_color(rng, saturation=0.9)
        glass = np.array((0.85, 0.97, 1.08)) * rng.uniform(50, 110)
        aside, forward, _ = -self.heading * self.middle()  # of the camera
        self._draw_strips(canvas, forward, paint, glass)
        if abs(forward) > self.profile[-1, 0]:
            self._draw_end(canvas, math.copysign(1.0, forward), paint, glass)
        if abs(aside) > self.half_width:
            self._draw_side(canvas, math.copysign(1.0, aside), paint, glass, stripe)

    @property
    def half_width(self) -> float:
        return float(np.ptp(self.u)) / 2

    def _fill(self, canvas: Canvas, forward: ArrayLike, aside: ArrayLike, up: ArrayLike, color: Rgb) -> None:
        """Paint polygons whose corners, (N, corners) or (corners,), are given by coordinate."""
        places = np.empty((*np.broadcast_shapes((1, 1), np.shape(forward), np.shape(aside), np.shape(up)), 3))
        places[..., 0], places[..., 1], places[..., 2] = aside, forward, up
        canvas.fill(self.middle() + places * (self.heading, self.heading, 1), color, label=BUS if self.bus else CAR)

    def _draw_strips(self, canvas: Canvas, eye_forward: float, paint: Floats, glass: Floats) -> None:
        """The segments of the profile that face the camera: rear, rear window, roof, windscreen, bonnet, nose."""
        first, second = self.profile[:-1], self.profile[1:]
        run, to_eye = second - first, np.array([eye_forward, canvas.camera.eye_m]) - first
        facing = np.flatnonzero(run[:, 0] * to_eye[:, 1] > run[:, 1] * to_eye[:, 0])
        for index in sorted(facing.tolist(), key=lambda at: -abs(eye_forward - (first + second)[at, 0] / 2)):
            forward, up = np.repeat(self.profile[index : index + 2], 2, axis=0).T
            aside = np.multiply((-1, 1, 1, -1), self.half_width)
            flat = abs(run[index, 0]) / math.hypot(*run[index])
            upright = canvas.light.shade((0, -math.copysign(self.heading, run[index, 1])))
            shade = flat * (1.05 + 0.25 * canvas.light.sun_strength) + (1 - flat) * upright
            self._fill(canvas, forward, aside, up, paint * shade)
            if not self.bus and index in CAR_GLASS:
                self._fill(canvas, forward, aside * 0.86, up * 0.92 + up.mean() * 0.08, glass * shade)

    def _draw_end(self, canvas: Canvas, end: float, paint: Floats, glass: Floats) -> None:
        """Front (1) or rear (-1): tyres, the shade below, lights, number plate, and a bus's windows and display."""
        half, foot = self.half_width, float(self.profile[0, 1])

        def bars(left: ArrayLike, right: ArrayLike, low: float, high: float, color: Rgb) -> None:
            """Rectangles whose left and right are relative to the half width."""
            aside, up = np.moveaxis(rectangles(left, right, low, high), -1, 0)
            self._fill(canvas, end * float(self.profile[-1, 0]), aside * half, up, color)

        lamp = (205, 30, 25) if end < 0 else (255, 250, 225) if canvas.light.lamps else (232, 236, 236)
        pair = (-0.94, 0.66), (-0.66, 0.94)
        bars(-0.9, 0.9, foot * 0.5, foot + 0.06, DARK)
        bars(*pair, 0, foot + 0.08, DARK)
        if self.bus:
            bars(-0.92, 0.92, 1.15, 2.45, glass)
            bars(-0.03, 0.03, 1.15, 2.45, paint * 0.5)
            bars(-0.60, 0.60, 2.58, 2.84, (255, 180, 40))
            bars(*pair, 0.62, 0.86, lamp)
        else:
            bars(-0.5, 0.5, 0.42, 0.56 if end > 0 else 0.46, DARK)
            bars(*pair, 0.56, 0.70, lamp)
        bars(-0.22, 0.22, foot + 0.08, foot + 0.20, (225, 222, 205))

    def _draw_side(self, canvas: Canvas, side: float, paint: Floats, glass: Floats, stripe: Floats) -> None:
        """Body, sill, windows, doors and wheels on the left (-1) or right (1)."""
        shade = canvas.light.shade((side * self.heading, 0))
        paint, glass, stripe = paint * shade, glass * shade, stripe * shade
        half, foot = float(self.profile[-1, 0]), float(self.profile[0, 1])

        def panels(
            left: ArrayLike, right: ArrayLike, low: float, high: float, color: Rgb, *, lean: float = 0.0
        ) -> None:
            """Panels that are `lean` metres narrower at either top end."""
            forward, up = np.moveaxis(rectangles(left, right, low, high), -1, 0)
            sloped = forward + np.array((0, 0, -lean, lean))
            self._fill(canvas, sloped, side * (self.half_width + 0.005), up, color)

        forward, up = self.profile.T
        self._fill(canvas, forward, side * self.half_width, up, paint)
        panels(-half, half, foot, foot + 0.14, (40, 40, 42))
        if self.bus:
            panels(-half, half, 0.72, 0.98, stripe)
            posts = np.linspace(-half + 0.35, half - 0.35, 8)
            panels(posts[:-1] + 0.08, posts[1:] - 0.08, 1.35, 2.45, glass)
            doors = np.array([-0.2, half - 1.7])
            panels(doors, doors + 1.1, 0.40, 2.5, glass * 0.55)
        else:
            (rear, belt), (front, other_belt) = self.profile[CAR_GLASS[0]], self.profile[CAR_GLASS[1] + 1]
            belt, top, post = max(belt, other_belt) + 0.02, self.height_m - 0.09, (rear + front) / 2 - 0.1
            lean = 0.25 + 0.35 * (front - self.profile[CAR_GLASS[1], 0])
            panels(rear + 0.22, front - 0.12, belt, top, glass, lean=lean)
            gaps = np.array([rear + 0.25, post, front - 0.15])
            panels(gaps - 0.025, gaps + 0.025, foot + 0.2, belt, paint * 0.55)
            panels(post - 0.05, post + 0.05, belt, top, paint)
        wheels, radius = ((2.4 - half, half - 2.6), 0.48) if self.bus else ((-0.62 * half, 0.64 * half), 0.34)
        angle = np.linspace(0, 2 * math.pi, 15)[:-1]
        for reach, color in ((radius + 0.03, DARK), (radius * 0.6, (166, 166, 166)), (0.08, (70, 70, 70))):
            up = np.maximum(radius + reach * np.sin(angle), 0.0)
            along = np.array(wheels)[:, None] + reach * np.cos(angle)
            self._fill(canvas, along, side * (self.half_width + 0.01), up, color)


def new_vehicle(u: float, v: float, heading: int, rng: np.random.Generator, *, bus: bool) -> Vehicle:
    """A bus, or a car that is a saloon, a hatchback or an estate."""
    if bus:
        half, roof, width = rng.uniform(4.6, 5.8), rng.uniform(3.0, 3.2), 2.5
        outline = [(-half, 0.32), (-half, roof - 0.15), (-half + 0.2, roof), (half - 0.2, roof), (half, roof - 0.15)]
        outline += [(half, 0.32)]
    else:
        half, roof, belt, width = rng.uniform((1.95, 1.42, 0.90, 1.72), (2.3, 1.62, 1.0, 1.88))
        rear, boot = ((1.75, 0.75), (1.0, 0.15), (0.55, 0.08))[rng.integers(3)]
        outline = [(-half, 0.26), (-half, 0.72), (-half + 0.06, belt), (-half + boot, belt + 0.02)]
        outline += [(-half + max(rear, boot + 0.4), roof), (half - 2.0, roof), (half - 1.15, belt)]
        outline += [(half - 0.12, 0.78), (half, 0.60), (half, 0.26)]
    extent = {"u": around(u, width / 2), "v": around(v, half)}
    return Vehicle(**extent, height_m=roof, heading=heading, bus=bus, profile=np.array(outline))
