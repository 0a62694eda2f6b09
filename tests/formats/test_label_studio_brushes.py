"""Label Studio's brushes as PNG or NumPy masks that are named after tasks: read with the JSON of the project."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from made_files import all_ids, has_note, image, opened, write
from pyramidseg.annotations.brush_rle import encode_brush
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError
from pyramidseg.inspection.training_check import check_dataset

HEIGHT, WIDTH = 12, 16
ROAD, TREE, CAR = (slice(0, 8), slice(0, 16)), (slice(4, 12), slice(0, 8)), (slice(6, 10), slice(6, 12))
"""128, 64 and 24 pixels; the smaller one is on top."""

SIZE = {"original_width": WIDTH, "original_height": HEIGHT}


def drawn(area: tuple[slice, slice], alpha: int = 255) -> NDArray[np.uint8]:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    pixels[area] = alpha
    return pixels


def result(label: str, area: tuple[slice, slice], number: int, control: str = "tag") -> dict[str, Any]:
    value = {"format": "rle", "rle": encode_brush(drawn(area) > 0), "brushlabels": [label]}
    return {"id": f"r{number}", "from_name": control, "type": "brushlabels", **SIZE, "value": value}


RESULTS = {
    5: [result("road", ROAD, 1), result("tree-top", TREE, 2), result("car", CAR, 3)],
    6: [result("road", CAR, 1), result("road", TREE, 2)],
    9: [result("road", TREE, 1)],
    10: [],
}
"""By annotation: that of image b, that of image a, and another annotator's of both."""

NAMES = {
    "task-12-annotation-5-by-1-tag-road-0": ROAD,
    "task-12-annotation-5-by-1-tag-tree-top-0": TREE,
    "task-12-annotation-5-by-1-tag-car-0": CAR,
    "task-11-annotation-6-by-1-tag-road-0": CAR,
    "task-11-annotation-6-by-1-tag-road-1": TREE,
}

COUNTS = {"a": {"background": 112, "road": 80}, "b": {"background": 24, "car": 24, "road": 88, "tree-top": 56}}


def tasks(*annotations: int) -> list[dict[str, Any]]:
    images, other = {5: (12, "b"), 6: (11, "a"), 9: (11, "a"), 10: (12, "b")}, {"email": "a-b@host.org", "id": 2}
    made: dict[int, dict[str, Any]] = {}
    for number in annotations:
        task, name = images[number]
        found = made.setdefault(task, {"id": task, "data": {"image": f"/data/upload/1/{name}.jpg"}, "annotations": []})
        found["annotations"].append(
            {"id": number, "completed_by": other if number > 6 else 1, "result": RESULTS[number]}
        )
    return [*made.values()]


def flat(task: dict[str, Any]) -> dict[str, Any]:
    (annotation,) = task["annotations"]
    regions = [{**SIZE, **region["value"]} for region in annotation["result"]]
    more = {"annotator": annotation["completed_by"], "annotation_id": annotation["id"]}
    return {"id": task["id"], "image": task["data"]["image"], "tag": regions, **more}


def export(root: Path, *, names: Any = None, folder: str = "masks", suffix: str = "png") -> None:
    for name in ("a", "b"):
        image(root / "images" / f"{name}.jpg", height=HEIGHT, width=WIDTH)
    (root / folder).mkdir(exist_ok=True)
    for name, area in (NAMES if names is None else names).items():
        if suffix == "npy":
            np.save(root / folder / name, drawn(area))
        else:
            Image.fromarray(drawn(area)).save(root / folder / f"{name}.png")


def counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    found = {}
    for record in (record for records in dataset.splits.values() for record in records):
        pixels = np.bincount(dataset.masks.read(record).ravel(), minlength=len(dataset.classes.names)).tolist()
        found[record.id] = {name: n for name, n in zip(dataset.classes.names, pixels, strict=True) if n}
    return {name.removeprefix("images/"): some for name, some in found.items()}


@pytest.mark.parametrize("suffix", ["png", "npy"])
@pytest.mark.parametrize("folder", ["masks", "project-1-at-2026"])
@pytest.mark.parametrize("minimal", [False, True])
def test_masks_belong_to_the_images_that_the_json_names(
    tmp_path: Path, minimal: bool, folder: str, suffix: str
) -> None:
    export(tmp_path, folder=folder, suffix=suffix)
    made = tasks(5, 6)
    write(tmp_path / "project.json", json.dumps([flat(task) for task in made] if minimal else made))
    dataset = opened(tmp_path)
    assert counts(dataset) == COUNTS
    assert has_note(dataset, "brushes are read from 5 masks, such as task-11-annotation-6-by-1-tag-road-0")
    assert not has_note(dataset, "in no annotation file")


def test_the_mask_decides_which_pixels_a_brush_has_and_soft_alpha_belongs_to_it(tmp_path: Path) -> None:
    export(tmp_path)
    write(tmp_path / "project.json", json.dumps(tasks(5, 6)))
    corrected = drawn(CAR, 255)
    corrected[0, :3] = (1, 127, 128)
    Image.fromarray(corrected).save(tmp_path / "masks" / "task-12-annotation-5-by-1-tag-car-0.png")
    (tmp_path / "masks" / "task-12-annotation-5-by-1-tag-road-0.png").unlink()  # that brush is drawn from the JSON
    assert counts(opened(tmp_path))["b"] == {"background": 24, "car": 27, "road": 85, "tree-top": 56}


def test_folders_of_splits_have_a_json_and_masks_each(tmp_path: Path) -> None:
    for split, annotation in (("train", 6), ("val", 5)):
        (tmp_path / split).mkdir()
        export(tmp_path / split, names={n: a for n, a in NAMES.items() if f"annotation-{annotation}" in n})
        (tmp_path / split / "images" / ("b.jpg" if split == "train" else "a.jpg")).unlink()
        write(tmp_path / split / "project.json", json.dumps(tasks(annotation)))
    dataset = opened(tmp_path)
    assert {split: len(records) for split, records in dataset.splits.items() if records} == {"train": 1, "val": 1}
    assert {name[-1]: some for name, some in counts(dataset).items()} == COUNTS


def test_a_choice_of_the_annotator_chooses_the_masks(tmp_path: Path) -> None:
    export(tmp_path, names=NAMES | {"task-11-annotation-9-by-ab@host.org-tag-road-0": TREE})
    write(tmp_path / "project.json", json.dumps(tasks(5, 6, 9, 10)))
    with pytest.raises(AmbiguousDatasetError, match="have annotations by several annotators") as caught:
        opened(tmp_path)
    assert yaml.safe_load(caught.value.suggestion) == {"annotator": "1"}
    assert counts(opened(tmp_path, annotator=1)) == COUNTS
    assert counts(opened(tmp_path, annotator="a-b@host.org")) == {
        "a": {"background": 128, "road": 64},
        "b": {"background": 192},
    }


@pytest.mark.parametrize("yaml_file", [False, True])
def test_without_the_json_it_is_asked_for_and_adding_it_is_enough(tmp_path: Path, yaml_file: bool) -> None:
    export(tmp_path)
    named = tmp_path / "dataset.yaml"
    if yaml_file:
        write(named, "train: {images: images, masks: masks}\n")
    asked = rf"masks: its masks are named after Label Studio's tasks.*export JSON or JSON_MIN.* to {tmp_path}, and open"
    with pytest.raises(DataError, match=asked):
        opened(named if yaml_file else tmp_path)
    named.unlink(missing_ok=True)  # "without naming folders of masks"
    write(tmp_path / "project.json", json.dumps(tasks(5, 6)))
    assert counts(opened(tmp_path)) == COUNTS


def test_masks_of_annotations_that_no_json_has_are_a_defect(tmp_path: Path) -> None:
    export(tmp_path)
    write(tmp_path / "project.json", json.dumps(tasks(5)))
    dataset, defects = open_with_defects(tmp_path, DataConfig())
    assert [(defect.file.name, defect.detail.partition(",")[0]) for defect in defects] == [
        ("task-11-annotation-6-by-1-tag-road-0.png", "2 masks")
    ]
    assert all_ids(dataset) == ["images/b"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("task-12-annotation-5-by-1-tag-car-1", "has no brush for the mask .*tag-car-1.png; export both again"),
        ("task-12-annotation-5-by-1-other-car-0", "has no brush for the mask"),
    ],
)
def test_mask_of_no_brush_is_a_defect_of_its_image(tmp_path: Path, name: str, message: str) -> None:
    export(tmp_path, names=NAMES | {name: CAR})
    write(tmp_path / "project.json", json.dumps(tasks(5, 6)))
    with pytest.raises(DataError, match=message):
        check_dataset(opened(tmp_path))


def test_mask_of_another_size_and_repeated_masks_are_defects(tmp_path: Path) -> None:
    export(tmp_path)
    write(tmp_path / "project.json", json.dumps(tasks(5, 6)))
    file = tmp_path / "masks" / "task-12-annotation-5-by-1-tag-car-0.png"
    Image.fromarray(drawn(CAR)[:4]).save(file)
    with pytest.raises(DataError, match=r"car-0.png: its size is \(4, 16\).*that of the image is \(12, 16\)"):
        check_dataset(opened(tmp_path))
    export(tmp_path, folder="again", names={file.stem: CAR})
    with pytest.raises(DataError, match=r"masks/task-12.*is the same brush as .*again/task-12.*; remove one"):
        opened(tmp_path)
