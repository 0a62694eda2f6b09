"""The image that a task of Label Studio is about: its name among the task's data, and before it was uploaded."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from pyramidseg.annotations.polygons import Location
from pyramidseg.base.safe_paths import is_valid_name
from pyramidseg.base.text import first_few
from pyramidseg.images.image_files import is_image_name

_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")
"""Label Studio puts it before the name of an uploaded image."""


def task_images(task: dict[str, Any]) -> dict[str, str]:
    """The names of images among a task's data, by key."""
    upload = task.get("file_upload")
    if isinstance(upload, str) and is_image_name(upload):
        return {"": upload}
    data = task.get("data", task)
    texts = {key: value for key, value in data.items() if isinstance(value, str)} if isinstance(data, dict) else {}
    return {key: name for key, value in texts.items() if (name := _file_name(value))}


def image_name(images: dict[str, str], tags: Iterable[str], where: Location) -> tuple[str, str | None]:
    """The name of a task's image, and the name before it was uploaded.

    Args:
        tags: names of the tags that regions were drawn on; of several images, that whose key is one of them is taken.
    """
    names = list(dict.fromkeys(images[tag] for tag in tags if tag in images) or dict.fromkeys(images.values()))
    if len(names) != 1:
        found = first_few(names, limit=3) if names else "none"
        raise where.error(f"needs the path of one image among its data, but has {found}; export one image a task")
    base = names[0].rpartition("/")[2]
    bare = _UPLOAD_PREFIX.sub("", base, count=1) if _UPLOAD_PREFIX.match(base) else None
    return names[0], bare


def _file_name(text: str) -> str | None:
    """The path of an image in a path or a URL, such as `/data/local-files/?d=folder%2Fa.jpg`."""
    path, _, query = text.partition("?")
    candidates = [query.removeprefix("d=").partition("&")[0], path, text]
    names = (unquote(candidate).replace("\\", "/") for candidate in candidates)
    return next((name for name in names if is_image_name(name.rpartition("/")[2]) and is_valid_name(name)), None)
