"""Settings, YAML and changes of files that messages about outlined objects and class lists ask for."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from followed import alternatives, counted, message, paste, settings_in, sizes, with_settings
from made_files import color_mask, image, mask, opened, pairs, write
from made_geo import UTM, box, feature, on_map, polygon, write_geojson, write_image

HEIGHT, WIDTH = 8, 10
RECTANGLE = [0, 0, 4, 0, 4, 4, 0, 4]
"""The first 4 pixels of the first 4 rows."""


def coco(root: Path, *annotations: dict[str, Any], names: tuple[str, ...] = ("a.jpg", "b.jpg"), **changes: Any) -> Path:
    """Two images with these objects on the first, of categories car (3) and bus (4)."""
    needed = {
        "image_id": 0,
        "category_id": 3,
        "iscrowd": 0,
        "segmentation": [RECTANGLE],
        "bbox": [0, 0, 4, 4],
        "area": 16,
    }
    for name in ("a.jpg", "b.jpg"):
        image(root / "images" / name, height=HEIGHT, width=WIDTH)
    content = {
        "images": [{"id": at, "file_name": n, "height": HEIGHT, "width": WIDTH} for at, n in enumerate(names)],
        "categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "bus"}],
        "annotations": [{"id": 10 + at, **needed, **entry} for at, entry in enumerate(annotations)],
        **changes,
    }
    return write(root / "annotations.json", json.dumps(content))


RIGHT = [[6, 0, 10, 0, 10, 4, 6, 4]]
CROWD = {"counts": [0, 8, 72], "size": [HEIGHT, WIDTH]}


@pytest.mark.parametrize("car", ["car", "car: old, new", "yes", "12"])
def test_crowds_are_added_to_a_class_by_the_entry_that_is_shown(tmp_path: Path, car: str) -> None:
    categories = [{"id": 3, "name": car}, {"id": 4, "name": "bus"}]
    crowd = {"iscrowd": 1, "segmentation": CROWD}
    coco(tmp_path, {}, crowd, {"category_id": 4, "segmentation": RIGHT}, categories=categories)
    dataset = opened(tmp_path)
    assert counted(dataset) == {"background": 124, car: 16, "bus": 16, "ignored": 4}
    note = next(note for note in dataset.notes if "(iscrowd)" in note)
    entry = yaml.safe_load(note.partition("as in ")[2])
    write(tmp_path / "dataset.yaml", yaml.safe_dump({"classes": ["background", entry, "bus"]}))
    assert counted(opened(tmp_path)) == {"background": 124, car: 20, "bus": 16}


@pytest.mark.parametrize(("low", "high"), [("car", "Car"), ("no", "No"), ("car, old", "Car, old")])
def test_classes_that_differ_in_case_are_merged_by_the_entry_that_is_shown(tmp_path: Path, low: str, high: str) -> None:
    categories = [{"id": 3, "name": low}, {"id": 4, "name": high}]
    coco(tmp_path, {}, {"category_id": 4, "segmentation": RIGHT}, categories=categories)
    note = next(note for note in opened(tmp_path).notes if "upper and lower case" in note)
    entry = yaml.safe_load(note.partition("[..., ")[2].removesuffix("])"))
    write(tmp_path / "dataset.yaml", yaml.safe_dump({"classes": ["background", entry]}))
    assert counted(opened(tmp_path)) == {"background": 128, high: 32}


@pytest.mark.parametrize(
    ("change", "remedy", "follow", "pixels"),
    [
        ({"segmentation": RECTANGLE}, r"\[\[x1, y1, ...\]\]", {"segmentation": [RECTANGLE]}, 16),
        ({"segmentation": [[[RECTANGLE]]]}, r"\[x1, y1, x2, y2, ...\]", {"segmentation": [RECTANGLE]}, 16),
        ({"segmentation": [[0, 0, 4, 4]]}, "add points", {"segmentation": [[0, 0, 4, 4, 0, 4]]}, 10),
        ({"segmentation": []}, "outline the object", {"segmentation": [RECTANGLE]}, 16),
        ({"segmentation": [[0, 0, 40, 0, 40, 4]]}, "move it", {"segmentation": [RECTANGLE]}, 16),
        ({"category_id": 9}, "correct it", {"category_id": 3}, 16),
        ({"image_id": 9}, "correct it", {"image_id": 0}, 16),
        ({"segmentation": {"counts": [0, 8], "size": [8, 10]}}, "must add up to", {"segmentation": CROWD}, 8),
    ],
)
def test_an_object_that_is_corrected_as_the_message_says(
    tmp_path: Path, change: dict[str, Any], remedy: str, follow: dict[str, Any], pixels: int
) -> None:
    good = {"category_id": 4, "segmentation": RIGHT}
    coco(tmp_path, change, good)
    text = message(lambda: counted(opened(tmp_path)))
    assert re.search(remedy, text), text
    coco(tmp_path, follow, good)
    assert counted(opened(tmp_path))["car"] == pixels
    if re.search("delete (it|this object)|remove it", text):
        coco(tmp_path, good)
        assert counted(opened(tmp_path)) == {"background": 144, "bus": 16}


@pytest.mark.parametrize("remedy", ["keep only one of them", "name all splits in a YAML file"])
def test_two_files_of_one_split_are_told_apart(tmp_path: Path, remedy: str) -> None:
    for place in ("train2014", "train2017", "val2017"):
        made = coco(tmp_path / "made", {}, {"category_id": 4, "segmentation": RIGHT})
        shutil.copytree(tmp_path / "made" / "images", tmp_path / place)
        write(tmp_path / "annotations" / f"instances_{place}.json", made.read_text())
    shutil.rmtree(tmp_path / "made")
    text = message(lambda: opened(tmp_path))
    assert remedy in text
    if remedy == "keep only one of them":
        (tmp_path / "annotations" / "instances_train2014.json").unlink()
    else:
        form = re.search(r"\((train: train2017)\)", text)[1]
        write(tmp_path / "dataset.yaml", f"{form}\n{form.replace('train', 'val')}\n")
    dataset = opened(tmp_path)
    assert sizes(dataset) == {"train": 2, "val": 2}
    assert dataset.split("train")[0].image.parent.name == "train2017"
    assert counted(dataset) == {"background": 256, "car": 32, "bus": 32}


def yolo(root: Path, label: str, description: str = "names: [car, bus]\n") -> Path:
    for split in ("train", "val"):
        image(root / "images" / split / f"{split}.jpg", height=HEIGHT, width=WIDTH)
        write(root / "labels" / split / f"{split}.txt", label)
    write(root / "data.yaml", f"train: images/train\nval: images/val\n{description}")
    return root


SQUARE = "0 0.0 0.0 0.4 0.0 0.4 0.5 0.0 0.5\n"


@pytest.mark.parametrize(
    ("label", "remedy", "follow"),
    [
        (f"{SQUARE}0 0.5 0.5 0.1 0.1\n", "remove this line", SQUARE),
        (SQUARE.replace("0.4", "4").replace("0.5", "4"), "divide pixels by these", SQUARE),
        (SQUARE.replace("0 0.0", "7 0.0", 1), "name it too, or correct the number", SQUARE),
    ],
)
def test_labels_of_yolo_that_are_corrected(tmp_path: Path, label: str, remedy: str, follow: str) -> None:
    yolo(tmp_path, label)
    assert remedy in message(lambda: counted(opened(tmp_path)))
    yolo(tmp_path, follow)
    assert counted(opened(tmp_path)) == {"background": 128, "car": 32}


def test_a_class_of_yolo_without_a_name_is_named(tmp_path: Path) -> None:
    yolo(tmp_path, "2" + SQUARE[1:])
    assert "name it too" in message(lambda: counted(opened(tmp_path)))
    yolo(tmp_path, "2" + SQUARE[1:], "names: [car, bus, tram]\n")
    assert counted(opened(tmp_path)) == {"background": 128, "tram": 32}


def runs(root: Path, row: str = "a.jpg,5 2") -> Path:
    for name in ("a.jpg", "b.jpg"):
        image(root / "images" / name, height=HEIGHT, width=WIDTH)
    return write(root / "train.csv", f"ImageId,EncodedPixels\n{row}\nb.jpg,\n")


def test_every_order_of_run_lengths_that_is_proposed_opens(tmp_path: Path) -> None:
    runs(tmp_path)
    text = message(lambda: opened(tmp_path))
    places = {
        "columns-1": [[4, 0], [5, 0]],
        "columns-0": [[5, 0], [6, 0]],
        "rows-1": [[0, 4], [0, 5]],
        "rows-0": [[0, 5], [0, 6]],
    }
    for choice in range(len(alternatives(text))):
        file = paste(text, choice)
        dataset = opened(tmp_path)
        (record,) = [r for records in dataset.splits.values() for r in records if r.id.endswith("a")]
        order = yaml.safe_load(file.read_text())["run_lengths"]
        assert np.argwhere(dataset.masks.read(record)).tolist() == places.pop(order)
        file.unlink()
    assert not places


def geo(root: Path, *, crs: str | None = UTM, on_image: bool = True, several: bool = False) -> Path:
    """Two GeoTIFFs of 8 x 10 pixels and polygons of two kinds, 16 pixels each."""
    for name in ("a", "b"):
        write_image(root / "images" / f"{name}.tif", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        rings = (box(0, 0, 4, 4), box(5, 0, 9, 4))
        features = [
            feature(polygon(on_map(ring) if on_image else ring), kind=kind, name="x")
            for ring, kind in zip(rings, ("roof", "road"), strict=True)
        ]
        write_geojson(root / "labels" / f"{name}.geojson", features, crs=crs)
        if several:
            write_geojson(root / "others" / f"{name}.geojson", features[:1], crs=crs)
    return root


def test_coordinates_that_are_not_degrees_are_read_as_the_images(tmp_path: Path) -> None:
    geo(tmp_path, crs=None)
    text = message(lambda: counted(opened(tmp_path)))
    own, code = settings_in(text)
    for setting in (own, code):
        assert counted(with_settings(tmp_path, [setting])) == {"background": 96, "foreground": 64}


def test_a_property_is_named_that_divides_polygons_into_classes(tmp_path: Path) -> None:
    geo(tmp_path)
    note = " ".join(opened(tmp_path).notes)
    assert "data.class_property=" in note, note
    assert counted(opened(tmp_path, class_property="kind")) == {"background": 96, "road": 32, "roof": 32}


def test_masks_of_geojson_in_two_folders(tmp_path: Path) -> None:
    geo(tmp_path, several=True)
    text = message(lambda: opened(tmp_path))
    found = []
    for choice in range(len(alternatives(text))):
        file = paste(text, choice)
        found.append(counted(opened(tmp_path))["foreground"])
        file.unlink()
    assert sorted(found) == [32, 64]


@pytest.mark.parametrize("name", ["labels.txt", "classes.json"])
def test_a_class_list_that_is_not_read(tmp_path: Path, name: str) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", "abcd", 0, 1)
    listed = write(tmp_path / name, "0 sky\n1 road\n" if name.endswith("txt") else '["sky", "road"]')
    note = next(note for note in opened(tmp_path).notes if "is not read" in note)
    assert str(listed) in note
    assert "classes in a YAML file" in note
    write(tmp_path / "dataset.yaml", "classes: [{name: sky, value: 0}, {name: road, value: 1}]")
    assert counted(opened(tmp_path)) == {"sky": 24, "road": 24}


def test_colors_are_given_in_the_form_that_is_shown(tmp_path: Path) -> None:
    for name in "abcd":
        image(tmp_path / "images" / f"{name}.jpg")
        color_mask(tmp_path / "masks" / f"{name}.png", (128, 64, 128), (0, 0, 0))
    assert "give every class its color" in message(lambda: opened(tmp_path, classes=("road", "other")))
    write(tmp_path / "dataset.yaml", "classes: [{name: road, color: [128, 64, 128]}, {name: other, color: [0, 0, 0]}]")
    assert counted(opened(tmp_path)) == {"road": 24, "other": 24}


def test_an_annotation_file_that_is_cut_off_is_exported_again(tmp_path: Path) -> None:
    for split in ("train", "val"):
        made = coco(tmp_path / split, {}, {"category_id": 4, "segmentation": RIGHT})
        made.rename(tmp_path / split / "_annotations.coco.json")
    whole = (tmp_path / "val" / "_annotations.coco.json").read_text()
    write(tmp_path / "val" / "_annotations.coco.json", whole[:60])
    assert "export it again" in message(lambda: opened(tmp_path))
    write(tmp_path / "val" / "_annotations.coco.json", whole)
    assert sizes(opened(tmp_path)) == {"train": 2, "val": 2}


def test_a_class_of_a_list_that_is_written_wrongly_is_named(tmp_path: Path) -> None:
    coco(tmp_path, {}, {"category_id": 4, "segmentation": RIGHT})
    write(tmp_path / "dataset.yaml", "classes: [background, cars, bus]\n")
    text = message(lambda: opened(tmp_path))
    near = text.partition("did you mean '")[2].partition("'")[0]
    write(tmp_path / "dataset.yaml", f"classes: [background, {near}, bus]\n")
    assert counted(opened(tmp_path)) == {"background": 128, "car": 16, "bus": 16}
    assert "(from: [...])" in text
    write(tmp_path / "dataset.yaml", "classes: [background, {name: cars, from: [car]}, bus]\n")
    assert counted(opened(tmp_path)) == {"background": 128, "cars": 16, "bus": 16}


def test_masks_are_listed_next_to_the_unread_ones(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", "abc", 0, 1)
    np.save(tmp_path / "masks" / "d.npy", np.zeros((3, 4), np.uint8))
    image(tmp_path / "images" / "d.jpg")
    assert "(1 .npy)" in message(lambda: opened(tmp_path))
    (tmp_path / "masks" / "d.npy").unlink()
    mask(tmp_path / "masks" / "d.png", 0, 1)
    assert counted(opened(tmp_path)) == {"class 0": 24, "class 1": 24}
