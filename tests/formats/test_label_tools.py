"""What label tools drop in silence is never written: CVAT's list, and Label Studio's."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree
from zipfile import ZipFile

import cv2
import numpy as np
import pytest
from PIL import Image

from made_conversions import write_source
from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.label_writer import LabelledImage
from pyramidseg.formats.writers import LABEL_WRITERS

CLASSES = Classes(("background", 'wet "road" & kerb', "<tree>"), ((0, 0, 0), (128, 64, 128), (0, 255, 3)))


def image(seed: int, **options: object) -> LabelledImage:
    """Random labels: blobs, lines, single pixels, holes, diagonal neighbours, ignored pixels."""
    generator = np.random.default_rng(seed)
    height, width = (int(side) for side in generator.integers(1, 40, 2))
    labels = generator.integers(0, 3, (height // 2 + 1, width // 2 + 1)).repeat(2, 0).repeat(2, 1)[:height, :width]
    labels = np.where(generator.random((height, width)) < 0.2, generator.integers(0, 3, (height, width)), labels)
    labels = np.where(generator.random((height, width)) < 0.05, IGNORE, labels).astype(np.uint8)
    return LabelledImage(f"day {seed}/é", "train", Path("x.JPG"), labels, **options)


@pytest.mark.parametrize("seed", range(6))
def test_masks_of_cvat_are_connected_and_fill_their_boxes(seed: int) -> None:
    made = image(seed)
    writer = LABEL_WRITERS["cvat-images"]
    part = writer.encode(made, CLASSES).part
    text = b"".join(next(writer.assemble({"train": [(made.name, part)]}, CLASSES))[1]).decode()
    root = ElementTree.fromstring(text)
    assert [label.findtext("name") for label in root.iter("label")] == list(CLASSES.names[1:])
    assert [label.findtext("color") for label in root.iter("label")] == ["#804080", "#00ff03"]
    (frame,) = root.iter("image")
    assert frame.get("name") == f"train/day {seed}/é.JPG" and frame.get("subset") == "train"
    drawn = np.zeros(made.labels.shape, np.uint8)
    for mask in frame.iter("mask"):
        left, top, width, height = (int(mask.get(key)) for key in ("left", "top", "width", "height"))
        runs = [int(run) for run in mask.get("rle").split(",")]
        assert sum(runs) == width * height and all(run > 0 for run in runs[1:])
        pixels = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
        assert pixels.any(0).all() and pixels.any(1).all()  # the box is the smallest one
        assert cv2.connectedComponents(pixels.astype(np.uint8), connectivity=4)[0] == 2
        part_drawn = drawn[top : top + height, left : left + width]
        assert part_drawn.shape == pixels.shape and not part_drawn[pixels > 0].any()
        part_drawn[pixels > 0] = CLASSES.names.index(mask.get("label"))
    np.testing.assert_array_equal(drawn, np.where(made.labels == IGNORE, 0, made.labels))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("to", ["label-studio", "label-studio-polygons"])
@pytest.mark.parametrize("is_prediction", [True, False])
def test_regions_of_label_studio_fit_the_labelling_config(to: str, seed: int, is_prediction: bool) -> None:
    made = image(seed)
    if is_prediction:
        confidence = np.random.default_rng(seed).integers(0, 256, made.labels.shape, np.uint8)
        made = image(seed, model="1a2b", confidence=confidence)
    writer = LABEL_WRITERS[to]
    part = writer.encode(made, CLASSES).part
    files = {name: b"".join(some).decode() for name, some in writer.assemble({"train": [("x", part)]}, CLASSES)}
    config = ElementTree.fromstring(files["label_config.xml"])
    (picture,) = config.iter("Image")
    controls = {tag.get("name"): tag for tag in config if tag.tag.endswith("Labels")}
    (task,) = json.loads(files["train.json"])
    assert list(task["data"]) == [picture.get("value").removeprefix("$")]
    (entry,) = task["predictions" if is_prediction else "annotations"]
    assert ("model_version" in entry) == ("score" in entry) == is_prediction
    ids = [region["id"] for region in entry["result"]]
    assert len(set(ids)) == len(ids) and all(isinstance(id, str) for id in ids)
    for region in entry["result"]:
        control = controls[region["from_name"]]
        assert control.get("toName") == region["to_name"] == picture.get("name")
        assert region["type"] == control.tag.lower()
        (label,) = region["value"][region["type"]]
        assert label in [tag.get("value") for tag in control]
        assert (region["original_height"], region["original_width"]) == made.labels.shape
        assert 0 <= region.get("score", 0) <= 1
        assert len(region["value"].get("points", [0, 0, 0])) >= 3
        assert all(0 <= value <= 100 for point in region["value"].get("points", []) for value in point)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("to", ["yolo", "labelme", "coco-polygons"])
def test_no_outline_has_fewer_than_three_corners(to: str, seed: int) -> None:
    written = LABEL_WRITERS[to].encode(image(seed), CLASSES)
    if to == "coco-polygons":
        annotations = [json.loads("{" + text) for text in written.part["annotations"]]
        outlines = [one["segmentation"] for one in annotations]
        counts = [len(rings[0]) // 2 for rings in outlines if isinstance(rings, list)]
        assert all(one["area"] > 0 and min(one["bbox"][2:]) > 0 for one in annotations)
    else:
        (text,) = (content.decode() for content in written.files.values())
        lines = re.findall(r"^\d+ (.*)$", text, re.MULTILINE)
        counts = [len(line.split()) // 2 for line in lines]
        if to == "labelme":
            shapes = json.loads(text)["shapes"]
            counts = [len(shape["points"]) for shape in shapes if shape["shape_type"] == "polygon"]
    assert all(count >= 4 for count in counts)


@pytest.mark.parametrize("seed", range(3))
def test_pillow_and_opencv_read_equal_masks(seed: int, tmp_path: Path) -> None:
    made = image(seed)
    (ids,) = LABEL_WRITERS["masks"].encode(made, CLASSES).files.values()
    (colors,) = LABEL_WRITERS["color-masks"].encode(made, CLASSES).files.values()
    (tmp_path / "ids.png").write_bytes(ids)
    (tmp_path / "colors.png").write_bytes(colors)
    with Image.open(tmp_path / "ids.png") as written:
        assert written.mode == "L"
        np.testing.assert_array_equal(np.array(written), made.labels)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "ids.png"), cv2.IMREAD_UNCHANGED), made.labels)
    table = np.array([*CLASSES.colors, *[(224, 224, 192)] * 253], np.uint8)
    with Image.open(tmp_path / "colors.png") as written:
        assert written.mode == "RGB"
        np.testing.assert_array_equal(np.array(written), table[made.labels])


def test_the_zip_file_for_cvat_has_the_masks_the_lists_and_the_labels(tmp_path: Path) -> None:
    convert_dataset(write_source(tmp_path / "source"), to="cvat-masks", out=tmp_path / "out")
    names = ["a", "b", "d", "deep/c"]
    with ZipFile(tmp_path / "out" / "masks.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert sorted(files) == sorted(
        [
            *("labelmap.txt", "ImageSets/Segmentation/train.txt", "ImageSets/Segmentation/val.txt"),
            *(f"SegmentationClass/{name}.png" for name in ["train/a", *names[1:], "val/a"]),
        ]
    )
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in files.items())
