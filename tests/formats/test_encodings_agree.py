"""One dataset, written in every layout and encoding: the labels that are read are always the same."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from made_files import opened, write
from pyramidseg.formats.class_lists import voc_color

NAMES = ("background", "leaf", "fig", "void")
COLORS = np.array([(0, 0, 0), (10, 200, 30), (200, 10, 90), (255, 255, 255)], np.uint8)
VOID = 3
IDS = ("a", "b", "c", "d")

Labels = dict[str, NDArray[np.uint8]]


@pytest.fixture(scope="module")
def truth() -> Labels:
    """Labels 0 to 2 of classes, 3 of void."""
    rng = np.random.default_rng(4)
    return {name: rng.integers(0, 4, (9, 7), np.uint8) for name in IDS}


def images(folder: Path, pattern: str) -> None:
    for name in IDS:
        path = folder / pattern.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (7, 9)).save(path)


def masks(folder: Path, pattern: str, truth: Labels, encode: Callable[[NDArray[np.uint8]], Image.Image]) -> None:
    for name in IDS:
        path = folder / pattern.format(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        encode(truth[name]).save(path)


def index(values: NDArray[np.uint8], *, void: int = 255) -> Image.Image:
    return Image.fromarray(np.where(values == VOID, void, values).astype(np.uint8))


def palette(values: NDArray[np.uint8]) -> Image.Image:
    made = index(values).convert("P")
    made.putpalette([value for level in range(256) for value in voc_color(level)])
    return made


def rgb(values: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(COLORS[values])


def quantized(values: NDArray[np.uint8]) -> Image.Image:
    return rgb(values).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)


def index_in_folders(folder: Path, truth: Labels) -> Path:
    images(folder, "images/{}.jpg")
    masks(folder, "masks/{}.png", truth, index)
    return write(folder / "dataset.yaml", "classes: [background, leaf, fig]").parent


def deep_ids(folder: Path, truth: Labels) -> Path:
    images(folder, "images/{}.jpg")
    masks(folder, "masks/{}.tif", truth, lambda values: Image.fromarray(values.astype(np.uint16) * 1000 + 7))
    text = "classes: {background: 7, leaf: 1007, fig: 2007}\nignore: 3007"
    return write(folder / "dataset.yaml", text).parent


def colours_side_by_side(folder: Path, truth: Labels) -> Path:
    images(folder, "{}_sat.jpg")
    masks(folder, "{}_mask.png", truth, rgb)
    rows = "".join(f"{name},{','.join(map(str, color))}\n" for name, color in zip(NAMES, COLORS.tolist(), strict=True))
    write(folder / "class_dict.csv", "name,r,g,b\n" + rows)
    return folder


def colours_off_by_a_little(folder: Path, truth: Labels) -> Path:
    images(folder, "images/{}.jpg")
    noise = np.random.default_rng(0)

    def noisy(values: NDArray[np.uint8]) -> Image.Image:
        shaken = COLORS[values].astype(int) + noise.integers(-9, 10, (*values.shape, 3))
        return Image.fromarray(shaken.clip(0, 255).astype(np.uint8))

    masks(folder, "masks/{}.png", truth, noisy)
    entries = ", ".join(
        f"{{name: {name}, color: {color}}}" for name, color in zip(NAMES[:3], COLORS.tolist(), strict=False)
    )
    text = f"classes: [{entries}]\nignore: '#ffffff'\ntolerance: 10"
    return write(folder / "dataset.yaml", text).parent


def pascal(folder: Path, truth: Labels) -> Path:
    images(folder, "JPEGImages/{}.jpg")
    masks(folder, "SegmentationClass/{}.png", truth, palette)
    write(folder / "class_names.txt", "_background_\nleaf\nfig\n")
    return folder


def cvat(folder: Path, truth: Labels, *, encode: Callable[[NDArray[np.uint8]], Image.Image]) -> Path:
    images(folder, "JPEGImages/{}.jpg")
    masks(folder, "SegmentationClass/{}.png", truth, encode)
    rows = "".join(
        f"{name}:{','.join(map(str, color))}::\n" for name, color in zip(NAMES, COLORS.tolist(), strict=True)
    )
    write(folder / "labelmap.txt", rows)
    write(folder / "ImageSets" / "Segmentation" / "default.txt", "\n".join(IDS))
    return folder


def roboflow(folder: Path, truth: Labels) -> Path:
    images(folder, "{}.jpg")
    masks(folder, "{}_mask.png", truth, lambda values: index(values, void=3))
    write(folder / "_classes.csv", "Pixel Value, Class\n0, background\n1, leaf\n2, fig\n3, void\n")
    return folder


def names_by_line(folder: Path, truth: Labels) -> Path:
    images(folder, "images/{}.jpg")
    masks(folder, "labels/{}_P.png", truth, lambda values: index(values, void=3))
    write(folder / "codes.txt", "background\nleaf\nfig\nVoid\n")
    return folder


def cvats_camvid(folder: Path, truth: Labels) -> Path:
    images(folder, "default/{}.png")
    masks(folder, "defaultannot/{}.png", truth, rgb)
    rows = "".join(f"{' '.join(map(str, color))} {name}\n" for name, color in zip(NAMES, COLORS.tolist(), strict=True))
    write(folder / "label_colors.txt", rows)
    return folder


@pytest.mark.parametrize(
    "make",
    [
        index_in_folders,
        deep_ids,
        colours_side_by_side,
        colours_off_by_a_little,
        pascal,
        lambda folder, truth: cvat(folder, truth, encode=rgb),
        lambda folder, truth: cvat(folder, truth, encode=quantized),
        lambda folder, truth: cvat(folder, truth, encode=lambda values: index(values, void=3)),
        roboflow,
        names_by_line,
        cvats_camvid,
    ],
)
def test_labels_are_the_same(tmp_path: Path, truth: Labels, make: Callable[[Path, Labels], Path]) -> None:
    dataset = opened(make(tmp_path, truth))
    assert dataset.classes.names == NAMES[:3]
    records = [record for records in dataset.splits.values() for record in records]
    assert sorted(record.id for record in records) == list(IDS)
    for record in records:
        expected = np.where(truth[record.id] == VOID, 255, truth[record.id])
        assert np.array_equal(dataset.masks.read(record), expected)
