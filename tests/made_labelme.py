"""LabelMe files and their images."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from made_files import image, mask_of, opened, write

HEIGHT, WIDTH = 8, 10


def shape(label: str, *points: tuple[float, float], kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    typed = {} if kind is None else {"shape_type": kind}
    return {"label": label, "points": points, "group_id": None, **typed, "flags": {}, **more}


def square(label: str, left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
    return shape(label, (left, top), (right, top), (right, bottom), (left, bottom))


def labelme(path: Path, *shapes: Any, **changes: Any) -> Path:
    """A file as LabelMe 5 writes it; what is None is left out."""
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{path.stem}.jpg",
        "imageData": base64.b64encode(b"not an image at all").decode(),
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **changes,
    }
    return write(path, json.dumps({key: value for key, value in content.items() if value is not None}, indent=2))


def add(root: Path, *names: str) -> None:
    """Images with a file beside each."""
    for name in names:
        image(root / f"{name}.jpg", height=HEIGHT, width=WIDTH)
        labelme(root / f"{name}.json", square("fig", 0, 0, 4, 4))


def drawn(root: Path, *shapes: Any, **changes: Any) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """The mask of one image; the classes are background, date and fig."""
    add(root, "b", "c")
    labelme(root / "c.json", square("date", 0, 0, 1, 1))
    image(root / "a.jpg", height=HEIGHT, width=WIDTH)
    labelme(root / "a.json", *shapes, **changes)
    return mask_of(opened(root), "a")


def covered(left: int, top: int, right: int, bottom: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    expected = np.zeros((HEIGHT, WIDTH))
    expected[top:bottom, left:right] = 2
    return expected


def png(pixels: "np.ndarray[Any, Any]") -> str:
    """As LabelMe keeps masks."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
