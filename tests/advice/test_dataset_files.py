"""Corrections of dataset files, palettes and folders that messages ask for."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from followed import counted, message, settings_in, sizes, with_settings
from made_files import color_mask, image, mask, opened, pairs, palette_mask, write
from made_geo import UTM, box, feature, on_map, polygon, write_geojson, write_image
from pyramidseg.inspection.training_check import check_dataset

AB = {"a": 24, "b": 24}
HALVES = {"class 0": 24, "class 1": 24}

FILES = {
    # the dataset file, the advice, the corrected file, and the pixels of masks of 0 and 1
    "value and from": (
        "classes: [{name: a, value: 0, from: [0]}, {name: b, value: 1}]", "give one of them",
        "classes: [{name: a, value: 0}, {name: b, value: 1}]", AB,
    ),
    "some values": ("classes: [{name: a, value: 0}, {name: b}]", "give all of them one", "classes: {a: 0, b: 1}", AB),
    "no values": ("classes: [{name: a, value: 0}, {name: b}]", "or none", "classes: [a, b]", AB),
    "key": ("clases: [a, b]", "did you mean 'classes'", "classes: [a, b]", AB),
    "key of a class": (
        "classes: [{name: a, colour: [0, 0, 0]}, {name: b}]", "did you mean 'color'",
        "classes: [{name: a, color: [0, 0, 0]}, {name: b}]", AB,
    ),
    "half a split": (
        "train: {images: images}", "give the name of a folder, or both images and masks",
        "train: {images: images, masks: masks}", HALVES,
    ),
    "folder of masks": (
        "train: {images: images, masks: maks}", "masks: folder .*maks does not exist; correct the name",
        "train: {images: images, masks: masks}", HALVES,
    ),
    "two rests": (
        "classes: [{name: a, from: '*'}, {name: b, from: '*'}]", "only one class takes all other values",
        "classes: [{name: a, value: 0}, {name: b, from: '*'}]", AB,
    ),
    "the rest is a class and ignored": (
        "classes: [{name: a, value: 0}, {name: b, from: '*'}]\nignore: ['*']", "remove one of the two entries",
        "classes: [{name: a, value: 0}, {name: b, from: '*'}]", AB,
    ),
    "a value is a class and ignored": (
        "classes: {a: 0, b: 1}\nignore: [1]", "remove one of the two entries", "classes: {a: 0, b: 1}", AB,
    ),
    "equal values": (
        "classes: {a: 0, b: 0}", "values must differ", "classes: {a: 0, b: 1}", AB,
    ),
    "a name to ignore": (
        "classes: {a: 0, b: 1}\nignore: [void]", "values are needed", "classes: {a: 0, b: 1}\nignore: [7]", AB,
    ),
    "path": (
        "path: nowhere\nclasses: {a: 0, b: 1}", "path is relative to the file", "path: .\nclasses: {a: 0, b: 1}", AB,
    ),
    "alias": (
        "classes: &x {a: 0, b: 1}\nignore: *x", "write the value out", "classes: {a: 0, b: 1}\nignore: [7]", AB,
    ),
    "binary and values": (
        "classes: {a: 0, b: 1}\nbinary: true", "leave out binary", "classes: {a: 0, b: 1}", AB,
    ),
    "binary and a list": (
        "classes: {a: 0, b: 1}\nbinary: true", "or the class list", "binary: true",
        {"background": 24, "foreground": 24},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_dataset_file_that_is_corrected(tmp_path: Path, name: str) -> None:
    wrong, advice, right, pixels = FILES[name]
    pairs(tmp_path / "images", tmp_path / "masks", "abcd", 0, 1)
    write(tmp_path / "dataset.yaml", wrong)
    text = message(lambda: opened(tmp_path))
    assert re.search(advice, text), text
    write(tmp_path / "dataset.yaml", right)
    assert counted(opened(tmp_path)) == pixels


def test_a_dataset_file_that_names_folders_elsewhere_is_given_itself(tmp_path: Path) -> None:
    pairs(tmp_path / "x", tmp_path / "y", "abcd", 0, 1)
    write(tmp_path / "data" / "dataset.yaml", "path: ..\ntrain: {images: x, masks: y}")
    named = message(lambda: opened(tmp_path / "data")).partition("give the file itself: ")[2]
    assert counted(opened(Path(named))) == HALVES


@pytest.mark.parametrize("meaning", ["color", "index"])
def test_palettes_that_contradict_each_other(tmp_path: Path, meaning: str) -> None:
    black, red, green = (0, 0, 0), (255, 0, 0), (0, 255, 0)
    for name, palette in zip("abcd", ([black, red], [black, red], [black, green], [black, red]), strict=True):
        image(tmp_path / "images" / f"{name}.png")
        palette_mask(tmp_path / "masks" / f"{name}.png", palette, 0, 1)
    text = message(lambda: check_dataset(opened(tmp_path)))
    if meaning == "color":
        entry = re.search(r"\{name: class 1, color: \[255, 0, 0\]\}", text)[0]
        other = entry.replace("class 1", "class 2").replace("255, 0, 0", ", ".join(map(str, green)))
        lines = f"classes: [{{name: class 0, color: [0, 0, 0]}}, {entry}, {other}]"
    else:
        entry = re.search(r"classes: \{(class 1: 1)", text)[1]
        lines = f"classes: {{class 0: 0, {entry}}}"
    write(tmp_path / "dataset.yaml", lines)
    dataset = opened(tmp_path)
    check_dataset(dataset)
    assert counted(dataset) == (
        {"class 0": 24, "class 1": 18, "class 2": 6} if meaning == "color" else {"class 0": 24, "class 1": 24}
    )


def test_a_colour_is_named_for_masks_of_colours(tmp_path: Path) -> None:
    for name in "abcd":
        image(tmp_path / "images" / f"{name}.png")
        color_mask(tmp_path / "masks" / f"{name}.png", (0, 0, 0), (64, 192, 0))
    write(tmp_path / "dataset.yaml", "classes: [{name: a, value: 0}, {name: b, value: 1}]")
    form = re.search(r"such as '(#\w+)'", message(lambda: opened(tmp_path)))[1]
    write(tmp_path / "dataset.yaml", f"classes: [{{name: a, from: '#000000'}}, {{name: b, from: '{form}'}}]")
    assert counted(opened(tmp_path)) == AB


def test_classes_of_one_colour_in_a_list_get_their_own(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", "abcd")
    write(tmp_path / "class_dict.csv", "name,r,g,b\na,0,0,0\nb,0,0,0\n")
    assert "give each its own" in message(lambda: opened(tmp_path))
    write(tmp_path / "class_dict.csv", "name,r,g,b\na,0,0,0\nb,255,0,0\n")
    assert counted(opened(tmp_path)) == AB


def test_images_are_put_into_the_folder_that_is_named(tmp_path: Path) -> None:
    for name in "ab":
        mask(tmp_path / "SegmentationClass" / f"{name}.png")
    folder = re.search(r"put them into (\w+)", message(lambda: opened(tmp_path)))[1]
    for name in "ab":
        image(tmp_path / folder / f"{name}.jpg")
    dataset = opened(tmp_path)
    assert sizes(dataset) == {"train": 1, "val": 1} and counted(dataset) == {"background": 12, "aeroplane": 12}


@pytest.mark.parametrize("remedy", ["unpack it there", "remove this one"])
def test_a_split_of_cityscapes_without_masks(tmp_path: Path, remedy: str) -> None:
    def city(split: str, *, masks: bool = True) -> None:
        image(tmp_path / "leftImg8bit" / split / "aachen" / "aachen_000000_000019_leftImg8bit.png")
        image(tmp_path / "leftImg8bit" / split / "aachen" / "aachen_000001_000019_leftImg8bit.png")
        for number in (0, 1) if masks else ():
            mask(tmp_path / "gtFine" / split / "aachen" / f"aachen_00000{number}_000019_gtFine_labelIds.png", 7, 8)

    city("train")
    city("val", masks=False)
    text = message(lambda: opened(tmp_path))
    assert remedy in text
    if remedy == "unpack it there":
        city("val")
        assert sizes(opened(tmp_path)) == {"train": 2, "val": 2}
    else:
        for file in sorted(Path(text.split(":")[0]).rglob("*.png")):
            file.unlink()
        Path(text.split(":")[0]).joinpath("aachen").rmdir()
        Path(text.split(":")[0]).rmdir()
        assert sizes(opened(tmp_path)) == {"train": 1, "val": 1}
    assert set(counted(opened(tmp_path))) == {"road", "sidewalk"}


def geo(
    root: Path, *, crs: str | None = UTM, of_images: str | None = UTM, geometry: dict[str, Any] | None = None
) -> None:
    for name in "ab":
        write_image(root / "images" / f"{name}.tif", np.zeros((8, 10, 3), np.uint8), crs=of_images)
        shapes = [polygon(on_map(box(0, 0, 4, 4))), geometry or polygon(on_map(box(5, 0, 9, 4)))]
        features = [feature(shape, kind=kind) for shape, kind in zip(shapes, ("roof", "road"), strict=True)]
        write_geojson(root / "labels" / f"{name}.geojson", features, crs=crs)


def test_polygons_and_images_without_a_coordinate_system(tmp_path: Path) -> None:
    geo(tmp_path, crs=None, of_images=None)
    own, code = settings_in(message(lambda: counted(opened(tmp_path))))
    assert counted(with_settings(tmp_path, [own])) == {"background": 96, "foreground": 64}
    (again,) = settings_in(message(lambda: counted(with_settings(tmp_path, [code]))))
    assert again == own


def test_a_property_that_is_misspelt(tmp_path: Path) -> None:
    geo(tmp_path)
    near = re.search(r"did you mean '(\w+)'", message(lambda: opened(tmp_path, class_property="kid")))[1]
    assert counted(opened(tmp_path, class_property=near)) == {"background": 96, "road": 32, "roof": 32}


@pytest.mark.parametrize("remedy", ["convert it to a polygon", "or remove it"])
def test_a_point_becomes_a_polygon(tmp_path: Path, remedy: str) -> None:
    geo(tmp_path, geometry={"type": "Point", "coordinates": [733604.0, 3725138.0]})
    assert remedy in message(lambda: counted(opened(tmp_path)))
    if remedy == "or remove it":
        for file in (tmp_path / "labels").iterdir():
            content = json.loads(file.read_text())
            content["features"] = content["features"][:1]
            file.write_text(json.dumps(content))
        assert counted(opened(tmp_path)) == {"background": 128, "foreground": 32}
    else:
        geo(tmp_path)
        assert counted(opened(tmp_path)) == {"background": 96, "foreground": 64}


def test_a_coordinate_system_that_is_not_known(tmp_path: Path) -> None:
    geo(tmp_path, crs=None)
    code = re.search(r"such as (EPSG:\d+)", message(lambda: counted(opened(tmp_path, vector_crs="UTM 16 N"))))[1]
    assert counted(opened(tmp_path, vector_crs=code)) == {"background": 96, "foreground": 64}


def labelme(root: Path, name: str, *, path: str | None = None, label: str | None = "car") -> None:
    image(root / f"{name}.jpg", height=8, width=10)
    shape = {
        "label": label,
        "points": [[0, 0], [4, 0], [4, 4], [0, 4]],
        "shape_type": "polygon",
        "flags": {},
        "group_id": None,
    }
    content = {"version": "5", "flags": {}, "shapes": [shape], "imagePath": path or f"{name}.jpg", "imageData": None}
    write(root / f"{name}.json", json.dumps({**content, "imageHeight": 8, "imageWidth": 10}))


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        ({"path": "a.jpg"}, "correct one of them"),
        ({"label": None}, "give it one"),
    ],
)
def test_a_file_of_labelme_that_is_corrected(tmp_path: Path, change: dict[str, Any], advice: str) -> None:
    labelme(tmp_path, "a")
    labelme(tmp_path, "b", **change)
    assert advice in message(lambda: counted(opened(tmp_path)))
    labelme(tmp_path, "b")
    assert counted(opened(tmp_path)) == {"background": 128, "car": 32}


@pytest.mark.parametrize(
    ("make", "setting"),
    [
        (lambda root: pairs(root / "images", root / "masks", "abcd", 0, 1), {"vector_crs": UTM}),
        (lambda root: pairs(root / "images", root / "masks", "abcd", 0, 1), {"run_lengths": "rows-1"}),
        (lambda root: pairs(root / "images", root / "masks", "abcd", 0, 1), {"annotator": "1"}),
    ],
)
def test_a_setting_of_another_format_is_removed(
    tmp_path: Path, make: Callable[[Path], None], setting: dict[str, str]
) -> None:
    make(tmp_path)
    assert re.search("remove it|leave it out", message(lambda: opened(tmp_path, **setting)))
    assert counted(opened(tmp_path)) == HALVES
