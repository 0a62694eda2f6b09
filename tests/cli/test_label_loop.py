"""The commands of docs/label-loop.md as they are written, with three tools; scripts edit files as the tools would."""

import json
import re
import shlex
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from followed import Terminal
from pyramidseg.annotations.brush_rle import decode_brush, encode_brush
from pyramidseg.annotations.polygons import Location
from pyramidseg.base.config import DataConfig
from pyramidseg.data.pairs import read_labels
from pyramidseg.demo.scenes import SCENE_CLASSES, draw_scene
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.open_dataset import open_dataset
from support import TINY

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy"),  # of pycocotools
]

PAGE = Path(__file__).parents[2] / "docs" / "label-loop.md"
HEIGHT, WIDTH, EACH = 64, 64, 10
SQUARE = np.s_[8:24, 4:30]
CORRECTED = "bus"
"""The correction: a square of each new image is painted as a bus."""

Names = NDArray[Any]
"""(H, W) names of classes."""


def commands(section: str) -> list[list[str]]:
    """The words of the commands in a section of the page, those that train with small networks."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    found = [shlex.split(line)[1:] for line in lines]
    short = ("train.epochs=1", "train.batch_size=4", "data.workers=0", "train.device=cpu")
    return [[*one, *TINY[4 * ("--weights" in one) :], *short] if one[0] == "train" else one for one in found]


def edit_label_studio(pre: Path, labelled: Path, corrected: Path) -> None:
    """Import as tasks of the project that `labelled` was exported from, correct, submit and export as JSON."""
    shutil.copytree(labelled, corrected, dirs_exist_ok=True)
    file = corrected / "train" / "train.json"
    tasks = json.loads(file.read_text())
    for task in json.loads((pre / "train.json").read_text()):
        (prediction,) = task.pop("predictions")
        regions = []
        for region in prediction["result"]:
            size = {"height": region["original_height"], "width": region["original_width"]}
            pixels = decode_brush(region["value"]["rle"], **size, where=Location(pre, "task"))
            pixels[SQUARE] = False
            if pixels.any():
                regions.append(region | {"value": region["value"] | {"rle": encode_brush(pixels)}, "origin": "manual"})
        painted = np.zeros((HEIGHT, WIDTH), bool)
        painted[SQUARE] = True
        value = {"format": "rle", "rle": encode_brush(painted), "brushlabels": [CORRECTED]}
        place = {"from_name": "label", "to_name": "image", "type": "brushlabels", "original_width": WIDTH}
        regions.append(place | {"id": "wX9_k", "original_height": HEIGHT, "image_rotation": 0, "value": value})
        tasks.append(task | {"annotations": [{"was_cancelled": False, "result": regions}]})
    for number, task in enumerate(tasks, start=1):
        task |= {"id": number, "project": 1, "predictions": [], "drafts": []}
        for annotation in task["annotations"]:
            annotation |= {"id": 100 + number, "task": number, "completed_by": 1}
    file.unlink()
    (file.parent / "project-1-at-2026-11-29-16-00-1a2b3c4d.json").write_text(json.dumps(tasks))


def edit_cvat(pre: Path, labelled: Path, corrected: Path) -> None:
    """Upload into a task, erase the square from the masks and draw another one over it; export as CVAT for images."""
    shutil.copytree(labelled, corrected / "task_1", dirs_exist_ok=True)
    tree = ET.parse(pre / "annotations.xml")
    for image in tree.iter("image"):
        for mask in image.findall("mask"):
            left, top, width, height = (int(mask.attrib[name]) for name in ("left", "top", "width", "height"))
            runs = list(map(int, mask.attrib["rle"].split(",")))
            pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
            box = np.repeat(np.arange(len(runs)) % 2, runs).reshape(height, width)
            pixels[top : top + height, left : left + width] = box
            pixels[SQUARE] = 0
            image.remove(mask)
            if pixels.any():
                image.append(cvat_mask(mask.attrib["label"], pixels))
        painted = np.zeros((HEIGHT, WIDTH), np.uint8)
        painted[SQUARE] = 1
        image.append(cvat_mask(CORRECTED, painted))
    tree.write(corrected / "task_2" / "annotations.xml")


def cvat_mask(label: str, pixels: NDArray[np.uint8]) -> ET.Element:
    """A mask as CVAT exports it: run lengths in its bounding box, the first of zeros."""
    left, top, width, height = cv2.boundingRect(pixels)
    runs, last = [0], 0
    for value in pixels[top : top + height, left : left + width].ravel().tolist():
        if value != last:
            runs.append(0)
        runs[-1], last = runs[-1] + 1, value
    box = {"left": left, "top": top, "width": width, "height": height, "z_order": 0}
    words = {"label": label, "source": "manual", "occluded": "0", "rle": ", ".join(map(str, runs))}
    return ET.Element("mask", words | {name: str(value) for name, value in box.items()})


def edit_coco(pre: Path, labelled: Path, corrected: Path) -> None:
    """Import, erase the square and draw a polygon, and export all images in one file."""
    old, new = (json.loads((folder / "annotations" / "instances_train.json").read_text()) for folder in (labelled, pre))
    shutil.copytree(labelled, corrected, dirs_exist_ok=True)
    number = {category["name"]: category["id"] for category in old["categories"]}
    names = {category["id"]: category["name"] for category in new["categories"]}
    annotations = list(old["annotations"])
    for annotation in new["annotations"]:
        size, counts = annotation["segmentation"]["size"], annotation["segmentation"]["counts"]
        pixels = coco_mask.decode({"size": size, "counts": counts.encode()})
        pixels[SQUARE] = 0
        encoded = coco_mask.encode(np.asfortranarray(pixels))
        encoded["counts"] = encoded["counts"].decode()
        category = number[names[annotation["category_id"]]]
        annotations.append(annotation | {"segmentation": encoded, "category_id": category})
    (rows, columns) = SQUARE
    corners = [(columns.start, rows.start), (columns.stop, rows.start), (columns.stop, rows.stop)]
    outline = [float(value) for corner in [*corners, (columns.start, rows.stop)] for value in corner]
    square = {"category_id": number[CORRECTED], "segmentation": [outline], "iscrowd": 0}
    annotations += [{**square, "image_id": image["id"]} for image in new["images"]]
    first = len(old["images"])
    for image in new["images"]:
        image["id"] += first
    for position, annotation in enumerate(annotations):
        annotation["image_id"] += first * (position >= len(old["annotations"]))
        annotation["id"] = position + 1
        if annotation["iscrowd"] == 0 and isinstance(annotation["segmentation"], dict):
            annotation["area"] = int(coco_mask.area(annotation["segmentation"]))
    kept = [one for one in annotations if one.get("area", 1)]
    content = old | {"images": old["images"] + new["images"], "annotations": kept}
    (corrected / "annotations" / "instances_train.json").write_text(json.dumps(content))


TOOLS: Mapping[str, tuple[str, Callable[[Path, Path, Path], None], str]] = {
    "Label Studio": ("label-studio", edit_label_studio, "train/images"),
    "CVAT": ("cvat-images", edit_cvat, "task_2/images/train"),
    "COCO": ("coco", edit_coco, "images/train"),
}
"""Format, editor, and where the new images are in the export, by section of the page."""


def scene_files(folder: Path, numbers: range) -> None:
    for number in numbers:
        scene = draw_scene(number, height=HEIGHT, width=WIDTH)
        for part, content in (("images", scene.image), ("masks", scene.labels)):
            path = folder / part / f"scene_{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)


def export_labels(to: str) -> None:
    """Ten labelled scenes in `labelled`, as the tool exports them; their masks stay in `source`."""
    scene_files(Path("source/train"), range(EACH - 2))
    scene_files(Path("source/val"), range(EACH - 2, EACH))
    Path("source/dataset.yaml").write_text(json.dumps({"classes": list(SCENE_CLASSES.names)}))
    convert_dataset("source", to=to, out="written")
    if to != "label-studio":
        Path("written").rename("labelled")
        return
    for split in ("train", "val"):  # a project each
        Path("labelled", split).mkdir(parents=True)
        Path("written", f"{split}.json").rename(f"labelled/{split}/{split}.json")
        Path("written/images", split).rename(f"labelled/{split}/images")


def names_by_image(folder: str) -> dict[str, Names]:
    dataset = open_dataset(Path(folder), DataConfig())
    names = np.array(dataset.classes.names)
    records = [record for some in dataset.splits.values() for record in some]
    return {record.image.stem: names[read_labels(record, dataset.masks)] for record in records}


@pytest.mark.parametrize("tool", TOOLS)
def test_the_way_round(
    tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal(capsys)
    monkeypatch.chdir(tmp_path)
    to, edit, images = TOOLS[tool]
    export_labels(to)
    scene_files(Path("made"), range(100, 100 + EACH))
    Path("made/images").rename("new")
    train, predict, again = commands(tool)
    terminal(*train)
    terminal(*predict)
    shutil.copytree("new", f"corrected/{images}")
    edit(Path("pre") / to, Path("labelled"), Path("corrected"))

    expected = {}
    for mask in Path("source").glob("*/masks/*.png"):
        expected[mask.stem] = np.array(SCENE_CLASSES.names)[np.array(Image.open(mask))]
    classes = np.array(open_dataset(Path("labelled"), DataConfig()).classes.names)
    for number in range(100, 100 + EACH):
        expected[f"scene_{number}"] = classes[np.array(Image.open(f"pre/scene_{number}.png"))]
        expected[f"scene_{number}"][SQUARE] = CORRECTED
    found = names_by_image("corrected")
    assert len(found) == 2 * EACH and found.keys() == expected.keys()
    for name, labels in found.items():
        np.testing.assert_array_equal(labels, expected[name])

    printed = terminal(*again)
    assert re.search(r"weights runs/1/best.safetensors: (\d+) of \1 tensors loaded", printed)
    assert f"train: {2 * EACH - 2} images" in printed and "val: 2 images" in printed
    for words in commands("Is the new model better?"):
        assert "2 images" in terminal(*words)
