"""What people do on the page of the server, for tests that drive it."""

from pathlib import Path

import numpy as np
from PIL import Image

from chromium import Tab
from page_server import CLASSES

GREY = 200
WIDTH, HEIGHT = 64, 48

READY = "document.getElementById('show-card')?.disabled === false"
SETTLED = "!document.getElementById('save-mask').disabled"


def picture(path: Path, *, width: int = WIDTH, height: int = HEIGHT, grey: int = GREY) -> Path:
    Image.new("RGB", (width, height), (grey, grey, grey)).save(path)
    return path


def upload(page: Tab, *files: Path) -> None:
    """Choose files, and wait until all have a result and the first is shown."""
    page.choose("#files", *files)
    page.wait(f"document.querySelectorAll('.thumbnail[data-status=done]').length >= {len(files)}")
    page.wait(SETTLED)


def place(page: Tab, x: float, y: float, *, width: int = WIDTH, height: int = HEIGHT) -> tuple[float, float]:
    """Where an image pixel's centre is on the canvas while the whole image is shown."""
    box = page.box("#canvas")
    scale = min((box["width"] - 16) / width, (box["height"] - 16) / height)
    return box["width"] / 2 + (x + 0.5 - width / 2) * scale, box["height"] / 2 + (y + 0.5 - height / 2) * scale


def painted(page: Tab, x: float, y: float) -> list[int]:
    """The RGBA colour of the canvas at a point, after the next frame."""
    return page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done([...document"
        f".getElementById('canvas').getContext('2d').getImageData(Math.floor({x}), Math.floor({y}), 1, 1).data]))))"
    )


def mixed(index: int, *, opacity: float = 0.6, grey: int = GREY) -> list[int]:
    return [round(opacity * part + (1 - opacity) * grey) for part in CLASSES[index]["color"]] + [255]


def move(page: Tab, x: float, y: float) -> None:
    box = page.box("#canvas")
    page.mouse("mouseMoved", box["left"] + x, box["top"] + y)


def close_to(found: list[int], expected: list[int]) -> bool:
    return bool(np.abs(np.subtract(found, expected)).max() <= 2)
