"""Cars and buses of the made scenes: a side profile, drawn out to a body in perspective."""

import math
from dataclasses import dataclass

import numpy as np

from pyramidseg.demo.canvas import Canvas, Floats, Rgb
from pyramidseg.demo.shapes import BUS, CAR, any_color, rectangle

TYRE = (26, 26, 28)


@dataclass(frozen=True)
class Vehicle:
    """A body between two equal sides.

    `profile` is (points, 2): metres forward from the middle and up, from the rear's foot over the roof to the front's;
    `glazed` names the segments after the points that are glass.
    """

    u: float
    v: float
    heading: int
    label: int
    profile: Floats
    glazed: tuple[int, ...]
    width_m: float
    paint: Floats
    stripe: Floats
    glass: Floats

    @property
    def length_m(self) -> float:
        return float(np.ptp(self.profile[:, 0]))

    @property
    def height_m(self) -> float:
        return float(self.profile[:, 1].max())

    def footprint(self) -> Floats:
        half_u, half_v = self.width_m / 2, self.length_m / 2
        return rectangle(self.u - half_u, self.u + half_u, self.v - half_v, self.v + half_v)

    def _street(self, forward: Floats, aside: Floats, up: Floats) -> Floats:
        """Places on the vehicle as street points."""
        forward, aside, up = np.broadcast_arrays(forward, aside, up)
        return np.stack([self.u + self.heading * aside, self.v + self.heading * forward, up], -1).astype(np.float64)

    def _boxes(self, canvas: Canvas, forward: Floats, aside: Floats, up: Floats, color: Rgb) -> None:
        """Quadrilaterals whose corners (N, 4) or (4,) are given by coordinate."""
        canvas.fill(self._street(forward, aside, up), color, label=self.label)

    def draw(self, canvas: Canvas, rng: np.random.Generator) -> None:
        shine = rng.uniform(0.85, 1.15)
        eye_forward, eye_aside = -self.v * self.heading, -self.u * self.heading
        self._draw_strips(canvas, eye_forward)
        end = 1 if eye_forward > 0 else -1
        if abs(eye_forward) > self.length_m / 2:
            self._draw_end(canvas, end)
        if abs(eye_aside) > self.width_m / 2:
            side = math.copysign(1.0, eye_aside)
            self._draw_side(canvas, side, shine * canvas.light.shade(side * self.heading, 0.0))

    def _half_width(self, up: Floats) -> Floats:
        """Half the width at a height: cabins lean inwards."""
        lean = 0.16 if self.label == CAR else 0.03
        return self.width_m / 2 * (1 - lean * np.clip((up - 0.55 * self.height_m) / (0.45 * self.height_m), 0, 1))

    def _draw_strips(self, canvas: Canvas, eye_forward: float) -> None:
        """Rear, rear window, roof, windscreen, bonnet and nose, as far as they face the camera, far ones first."""
        first, second = self.profile[:-1], self.profile[1:]
        run = second - first
        to_eye = np.array([eye_forward, canvas.camera.eye_m]) - first
        facing = run[:, 0] * to_eye[:, 1] - run[:, 1] * to_eye[:, 0] > 0
        for index in sorted(np.flatnonzero(facing), key=lambda at: -abs(eye_forward - (first + second)[at, 0] / 2)):
            forward = np.array([first[index, 0], first[index, 0], second[index, 0], second[index, 0]])
            up = np.array([first[index, 1], first[index, 1], second[index, 1], second[index, 1]])
            aside = self._half_width(up) * (-1, 1, 1, -1)
            flat = abs(run[index, 0]) / float(np.hypot(*run[index]))
            shade = flat * (1.05 + 0.25 * canvas.light.sun_strength) + (1 - flat) * canvas.light.shade(
                0.0, -math.copysign(self.heading, run[index, 1])
            )
            self._boxes(canvas, forward, aside, up, self.paint * shade)
            if int(index) in self.glazed:
                self._boxes(canvas, forward, aside * 0.86, up * 0.92 + up.mean() * 0.08, self.glass * shade)

    def _draw_end(self, canvas: Canvas, end: int) -> None:
        """Whichever of front (1) and rear (-1) one sees: tyres, shade below, lights, number plate, a bus's windows."""
        at, half = end * self.length_m / 2, self.width_m / 2
        across = np.array([-1.0, 1.0, 1.0, -1.0])
        both = np.array([[-0.94, -0.66, -0.66, -0.94], [0.66, 0.94, 0.94, 0.66]])
        foot = float(self.profile[0, 1])

        def bar(width: float, low: float, high: float, color: Rgb) -> None:
            self._boxes(canvas, np.array(at), across * half * width, np.array([low, low, high, high]), color)

        def pair(low: float, high: float, color: Rgb) -> None:
            self._boxes(canvas, np.array(at), both * half, np.array([low, low, high, high]), color)

        lamp = ((255, 250, 225) if end > 0 else (205, 30, 25)) if canvas.light.lamps or end < 0 else (232, 236, 236)
        bar(0.9, foot * 0.5, foot + 0.06, (30, 30, 32))
        pair(0.0, foot + 0.08, TYRE)
        if self.label == BUS:
            bar(0.92, 1.15, 2.45, self.glass)
            bar(0.03, 1.15, 2.45, self.paint * 0.5)
            bar(0.70, 2.56, 2.86, (30, 30, 30))
            bar(0.45, 2.62, 2.80, (255, 180, 40))
            pair(0.62, 0.86, lamp)
        else:
            bar(0.50, 0.42, 0.56 if end > 0 else 0.46, (38, 38, 40))
            pair(0.56, 0.70, lamp)
        bar(0.22, foot + 0.08, foot + 0.20, (225, 222, 205))

    def _draw_side(self, canvas: Canvas, side: float, shade: float) -> None:
        """The side towards the camera (-1 or 1): body, sill, windows, wheels."""
        forward, up = self.profile.T
        self._boxes(canvas, forward, side * self._half_width(up), up, self.paint * shade)
        half, foot = self.length_m / 2, float(self.profile[0, 1])
        self._panel(canvas, side, (-half, half), (foot, foot + 0.14), np.array((40.0, 40.0, 42.0)))
        if self.label == BUS:
            self._draw_bus_side(canvas, side, shade)
            self._draw_wheels(canvas, side, (2.4 - half, half - 2.6), 0.48)
        else:
            self._draw_car_side(canvas, side, shade)
            self._draw_wheels(canvas, side, (-0.62 * half, 0.64 * half), 0.34)

    def _panel(
        self,
        canvas: Canvas,
        side: float,
        span: tuple[float | Floats, float | Floats],
        rise: tuple[float, float],
        color: Rgb,
        *,
        lean: float = 0.0,
    ) -> None:
        """Panels on a side between two positions along it, at one height; `lean` metres narrower at either top end."""
        left, right = np.atleast_1d(*span)
        up = np.array([rise[0], rise[0], rise[1], rise[1]])
        forward = np.stack([left, right, right - lean, left + lean], -1)
        self._boxes(canvas, forward, side * (self._half_width(up) + 0.005), up, color)

    def _draw_bus_side(self, canvas: Canvas, side: float, shade: float) -> None:
        """A stripe, a row of seven windows, two doors."""
        half = self.length_m / 2
        self._panel(canvas, side, (-half, half), (0.72, 0.98), self.stripe * shade)
        posts = np.linspace(-half + 0.35, half - 0.35, 8)
        windows = (posts[:-1] + 0.08, posts[1:] - 0.08)
        self._panel(canvas, side, windows, (1.35, 2.45), self.glass * shade)
        self._panel(canvas, side, windows, (1.35, 1.75), self.glass * (0.7 * shade))
        doors = np.array([-0.2, half - 1.7])
        self._panel(canvas, side, (doors, doors + 1.1), (0.40, 2.5), self.glass * (0.55 * shade))

    def _draw_car_side(self, canvas: Canvas, side: float, shade: float) -> None:
        """Windows that follow the cabin's slopes, parted by a post, and the gaps of the doors."""
        rear, front = self.profile[self.glazed[0]], self.profile[self.glazed[1] + 1]
        belt, foot = max(rear[1], front[1]) + 0.02, float(self.profile[0, 1])
        rise = (belt, self.height_m - 0.09)
        lean = 0.25 + 0.35 * (front[0] - self.profile[self.glazed[1], 0])
        self._panel(canvas, side, (rear[0] + 0.22, front[0] - 0.12), rise, self.glass * shade, lean=lean)
        post = (rear[0] + front[0]) / 2 - 0.1
        gaps = np.array([rear[0] + 0.25, post, front[0] - 0.15])
        self._panel(canvas, side, (gaps - 0.025, gaps + 0.025), (foot + 0.2, belt), self.paint * (0.55 * shade))
        self._panel(canvas, side, (post - 0.05, post + 0.05), rise, self.paint * shade)

    def _draw_wheels(self, canvas: Canvas, side: float, places: tuple[float, float], radius: float) -> None:
        """Wheel arch, tyre, rim and hub at each place."""
        angle = np.linspace(0, 2 * math.pi, 15)[:-1]
        rings = (
            (radius + 0.05, (18, 18, 20)),
            (radius, TYRE),
            (radius * 0.6, (165, 168, 172)),
            (radius * 0.2, (70,) * 3),
        )
        for reach, color in rings:
            forward = np.array(places)[:, None] + reach * np.cos(angle)
            up = np.maximum(radius + reach * np.sin(angle), 0.0)
            self._boxes(canvas, forward, np.array(side * (self.width_m / 2 + 0.01)), up, color)


def new_car(u: float, v: float, heading: int, rng: np.random.Generator) -> Vehicle:
    """A saloon, a hatchback or an estate car, of any colour."""
    length, roof, belt = rng.uniform(3.9, 4.6), rng.uniform(1.42, 1.62), rng.uniform(0.90, 1.0)
    rear_m, boot = {"saloon": (1.75, 0.75), "hatchback": (1.0, 0.15), "estate": (0.55, 0.08)}[
        str(rng.choice(["saloon", "hatchback", "estate"]))
    ]
    half = length / 2
    profile = np.array(
        [
            (-half, 0.26),
            (-half, 0.72),
            (-half + 0.06, belt),
            (-half + boot, belt + 0.02),
            (-half + max(rear_m, boot + 0.4), roof),
            (half - 2.0, roof),
            (half - 1.15, belt),
            (half - 0.12, 0.78),
            (half, 0.60),
            (half, 0.26),
        ]
    )
    glass = np.array((0.85, 0.97, 1.08)) * rng.uniform(45, 105)
    return Vehicle(
        u, v, heading, CAR, profile, (3, 5), rng.uniform(1.72, 1.88), any_color(rng, saturation=0.65), glass, glass
    )


def new_bus(u: float, v: float, heading: int, rng: np.random.Generator) -> Vehicle:
    """A city bus of any livery."""
    half, roof = rng.uniform(4.6, 5.8), rng.uniform(3.0, 3.2)
    profile = np.array(
        [
            (-half, 0.32),
            (-half, roof - 0.15),
            (-half + 0.2, roof),
            (half - 0.2, roof),
            (half, roof - 0.15),
            (half, 0.32),
        ]
    )
    glass = np.array((0.85, 0.97, 1.08)) * rng.uniform(60, 120)
    paint = any_color(rng, low=60, saturation=0.7)
    return Vehicle(u, v, heading, BUS, profile, (), 2.5, paint, any_color(rng, saturation=0.9), glass)
