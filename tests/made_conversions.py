"""Datasets to convert, and their labels to compare."""

from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.base.classes import IGNORE
from pyramidseg.data.pairs import read_labels
from pyramidseg.data.records import Dataset
from pyramidseg.formats.writers import LABEL_WRITERS

EXACT = ("masks", "color-masks", "voc", "cvat-masks", "coco-panoptic", "huggingface")
"""Formats of which every class can be read back pixel by pixel, ignored pixels included."""

WITHOUT_MAP = tuple(name for name in LABEL_WRITERS if name != "geojson")
"""Those that need no place on the map; `test_geojson_writer` has the other one."""

CLASSES = ("background", "Straße, wet", "tree", "car")
SIZES = {"a": (9, 14), "b": (8, 8), "deep/c": (5, 9), "d": (30, 21)}


def random_labels(height: int, width: int, *, seed: int) -> NDArray[np.uint8]:
    """Blobs with holes, single pixels, and ignored pixels."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, len(CLASSES), (height // 3 + 1, width // 3 + 1), np.uint8)
    labels = coarse.repeat(3, 0).repeat(3, 1)[:height, :width]
    noise = generator.random((height, width))
    labels = np.where(noise < 0.1, generator.integers(0, len(CLASSES), (height, width)), labels)
    return np.where(noise > 0.95, IGNORE, labels).astype(np.uint8)


def write_source(folder: Path) -> Path:
    """Four images in train, and one of the same name in val."""
    for number, (split, name) in enumerate([*(("train", name) for name in SIZES), ("val", "a")]):
        height, width = SIZES[name]
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        for kind, content in (("images", pixels), ("masks", random_labels(height, width, seed=number))):
            path = folder / split / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)
    description = {"classes": list(CLASSES), "ignore": [IGNORE]}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(description, allow_unicode=True), encoding="utf-8")
    return folder


def labels_by_image(dataset: Dataset) -> dict[tuple[str, str], NDArray[np.str_]]:
    """Class names by split and name; names that a format gives to pixels without a label are left as they are."""
    names = np.array([*dataset.classes.names, *["?"] * (IGNORE - len(dataset.classes)), "ignored"])
    return {
        (split, record.id.removeprefix(f"{split}/")): names[read_labels(record, dataset.masks)]
        for split, records in dataset.splits.items()
        for record in records
    }


def ids_of(found: dict[tuple[str, str], NDArray[np.str_]]) -> dict[tuple[str, str], NDArray[np.str_]]:
    """The same by file name: formats differ in the folders that are part of an id, or of a name."""
    return {(split, Path(name).name.removeprefix("deep_")): labels for (split, name), labels in found.items()}


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
