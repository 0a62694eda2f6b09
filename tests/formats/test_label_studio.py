"""Label Studio's JSON and JSON_MIN: regions, names of images, annotators, and what cannot be read."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from made_files import all_ids, has_note, image, opened, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError
from pyramidseg.inspection.training_check import check_dataset

HEIGHT, WIDTH = 8, 10
SQUARE = [[0, 0], [40, 0], [40, 100], [0, 100]]
"""In percent: the first 4 of 10 columns."""

NUMBERS = itertools.count()

BRUSH = [0, 0, 1, 64, 57, 27, 254, 83, 0, 194, 255, 247, 192, 48, 191, 253, 240, 12, 47, 255, 149, 192, 35, 255, 196]
BRUSH += [224, 0]
"""Written by Label Studio's SDK: rows 2 to 4 of columns 1 to 6, and the pixel of row 6 in the last column."""


def region(kind: str, label: str | None = "fig", /, **value: Any) -> dict[str, Any]:
    labels = {} if label is None else {kind: [label]}
    return {
        "id": f"r{next(NUMBERS)}",
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {**value, **labels},
    }


def polygon(label: str | None = "fig", points: Any = SQUARE) -> dict[str, Any]:
    return region("polygonlabels", label, points=points, closed=True)


def brush(label: str = "fig", rle: Any = BRUSH) -> dict[str, Any]:
    return region("brushlabels", label, format="rle", rle=rle)


def annotation(*results: Any, by: Any = 1, **more: Any) -> dict[str, Any]:
    return {"id": 3, "completed_by": by, "result": list(results), **more}


def task(number: int, url: str, *annotations: Any) -> dict[str, Any]:
    return {"id": number, "annotations": list(annotations), "data": {"image": url}, "predictions": []}


def export(root: Path, *tasks: Any, name: str = "project-1-at-2026.json") -> Path:
    return write(root / name, json.dumps(list(tasks)))


def with_images(root: Path, *names: str) -> None:
    for name in names:
        image(root / name, height=HEIGHT, width=WIDTH)


def mask(dataset: Dataset, id: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    (record,) = [record for records in dataset.splits.values() for record in records if record.id == id]
    return dataset.masks.read(record)


def test_polygons_are_in_percent_and_brushes_exact(tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    export(
        tmp_path,
        task(1, "/data/upload/4/a.jpg", annotation(polygon())),
        task(2, "/data/upload/4/b.jpg", annotation(brush("leaf"))),
    )
    dataset = opened(tmp_path)
    assert dataset.classes.names == ("background", "fig", "leaf")
    assert (mask(dataset, "a")[:, :4] == 1).all() and mask(dataset, "a").sum() == 32
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[2:5, 1:7] = 2
    expected[6, 9] = 2
    assert np.array_equal(mask(dataset, "b"), expected)


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("/data/upload/4/9729b5a1-a.jpg", "9729b5a1-a.jpg"),
        ("/data/upload/4/9729b5a1-a.jpg", "images/a.jpg"),
        ("/data/local-files/?d=some%2Ffolder%2Fa%20b.jpg", "folder/a b.jpg"),
        ("https://host/x%2Fa.jpg?X-Amz-Signature=0", "a.jpg"),
        ("s3://bucket/deep/a.jpg", "deep/a.jpg"),
        (r"C:\images\a.jpg", "a.jpg"),
    ],
)
def test_image_is_found_by_the_name_that_an_address_contains(tmp_path: Path, url: str, file: str) -> None:
    with_images(tmp_path, file, "other.jpg")
    export(tmp_path, task(1, url, annotation(polygon())), task(2, "other.jpg", annotation()))
    assert all_ids(opened(tmp_path)) == sorted([file.removesuffix(".jpg"), "other"])


def test_of_several_images_the_one_that_regions_were_drawn_on_is_taken(tmp_path: Path) -> None:
    """Its key is the name of the tag; a task without regions is of the tag of the others."""
    with_images(tmp_path, "a.jpg", "b.jpg", "map.jpg")
    tasks = [task(1, "a.jpg", annotation()), task(2, "b.jpg", annotation(polygon()))]
    for one in tasks:
        one["data"] = {"map": "map.jpg", **one["data"]}
        choice = {"type": "choices", "value": {"choices": ["good"]}, "from_name": "c", "to_name": "map"}
        one["annotations"][0]["result"].append(choice)
    export(tmp_path, *tasks)
    assert all_ids(opened(tmp_path)) == ["a", "b"]
    for result in tasks[1]["annotations"][0]["result"]:
        result["to_name"] = "picture"
    export(tmp_path, *tasks)
    with pytest.raises(DataError, match=r"task 2: needs the path of one image .* but has map\.jpg, b\.jpg"):
        opened(tmp_path)


def test_json_min_repeats_run_lengths_under_two_controls(tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    bare = {"format": "rle", "rle": BRUSH, **size}
    rows = [
        {"image": f"/u/{name}", "id": number, "wand": [bare], "tag": [{**bare, "labels": ["fig"]}]}
        | {"annotator": 1, "annotation_id": number + 50, "created_at": "2025", "lead_time": 1.5}
        for number, name in enumerate(("a.jpg", "b.jpg"))
    ]
    export(tmp_path, *rows)
    dataset = opened(tmp_path)
    assert dataset.classes.names == ("background", "fig")
    assert mask(dataset, "a").sum() == 19


def test_boxes_keypoints_and_empty_brushes_are_counted(tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    others = (
        region("rectanglelabels", "car", x=1, y=1, width=5, height=5, rotation=0),
        region("keypointlabels", "nose", x=1, y=1, width=0.5),
        brush("car", []),
        {"type": "choices", "value": {"choices": ["good"]}, "from_name": "c", "to_name": "image"},
        {"type": "relation", "from_id": "x", "to_id": "y"},
    )
    export(tmp_path, task(1, "a.jpg", annotation(polygon(), *others)), task(2, "b.jpg", annotation()))
    dataset = opened(tmp_path)
    assert dataset.classes.names == ("background", "fig")
    assert mask(dataset, "a").sum() == 32 and not mask(dataset, "b").any()
    assert has_note(dataset, "1 box, 1 empty brush, 1 keypoint")


@pytest.mark.parametrize("kind", ["rectanglelabels", "keypointlabels"])
def test_set_of_boxes_or_keypoints_alone_is_refused(tmp_path: Path, kind: str) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    value = {"x": 1, "y": 1, "width": 5} | ({"height": 5} if kind == "rectanglelabels" else {})
    export(tmp_path, *(task(at, name, annotation(region(kind, **value))) for at, name in enumerate(("a.jpg", "b.jpg"))))
    with pytest.raises(DefectError, match=r"has no outlined object with a label, but 2 (box|keypoint), which are not"):
        opened(tmp_path)


def test_ellipse(tmp_path: Path) -> None:
    shape = region("ellipselabels", "fig", x=50, y=50, radiusX=30, radiusY=30, rotation=0)
    for name in ("a.jpg", "b.jpg"):
        image(tmp_path / name, height=100, width=200)
    shape |= {"original_width": 200, "original_height": 100}
    export(tmp_path, task(1, "a.jpg", annotation(shape)), task(2, "b.jpg", annotation(shape)))
    assert mask(opened(tmp_path), "a").sum() == pytest.approx(np.pi * 60 * 30, rel=0.005)


def two_annotators(root: Path) -> None:
    with_images(root, "a.jpg", "b.jpg", "c.jpg")
    anna, bert = {"id": 7, "email": "anna@example.org"}, 2
    export(
        root,
        task(1, "a.jpg", annotation(polygon(), by=anna), annotation(brush(), by=bert)),
        task(2, "b.jpg", annotation(polygon(), by=anna), annotation(brush(), by=bert)),
        task(3, "c.jpg", annotation(polygon(), by=anna), annotation(by=bert, was_cancelled=True)),
    )


def test_several_annotators_need_a_choice_that_the_message_proposes(tmp_path: Path) -> None:
    two_annotators(tmp_path)
    with pytest.raises(AmbiguousDatasetError, match="2 tasks, such as task 1, have annotations by several") as caught:
        opened(tmp_path)
    assert yaml.safe_load(caught.value.suggestion) == {"annotator": "2"}
    write(tmp_path / "dataset.yaml", caught.value.suggestion)
    dataset = opened(tmp_path)
    assert all_ids(dataset) == ["a", "b"] and mask(dataset, "a").sum() == 19
    assert has_note(dataset, "tasks without an annotation by 2 were left out (task 3)")


@pytest.mark.parametrize("annotator", ["anna@example.org", 2])
def test_the_chosen_annotator_is_read(tmp_path: Path, annotator: str | int) -> None:
    two_annotators(tmp_path)
    dataset = opened(tmp_path, annotator=annotator)
    assert mask(dataset, "a").sum() == (19 if annotator == 2 else 32)


def test_unknown_annotator_and_foreign_setting_are_refused(tmp_path: Path) -> None:
    two_annotators(tmp_path)
    with pytest.raises(DataError, match=r"no task has annotations by 9 .*known: 2, anna@example\.org"):
        opened(tmp_path, annotator=9)
    with pytest.raises(ConfigError, match="class_property=kind: this setting is for GeoJSON"):
        opened(tmp_path, annotator=2, class_property="kind")


def test_two_annotations_by_one_annotator_are_a_defect(tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    export(tmp_path, task(1, "a.jpg", annotation(polygon()), annotation(brush())), task(2, "b.jpg", annotation()))
    with pytest.raises(DefectError, match="task 1: several annotations by one annotator"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (polygon(points=[[0, 0], [float("nan"), 1], [5, 5]]), "not a finite number"),
        (polygon(points=[[0, 0], [1, 1]]), "needs at least 3 points"),
        (polygon(points=[[0, 0], [900, 1], [5, 5]]), "far outside the image"),
        (polygon(points={"x": 1}), "coordinates must be numbers"),
        (polygon(None), "needs one label, but has none"),
        (brush(rle=BRUSH[:-4]), "end too early"),
        (brush(rle=[0, 0, 0, 4, 57, 27, 0]), "are of 4 words"),
        ({**polygon(), "image_rotation": 90}, "rotated image"),
        ({**polygon(), "original_width": 99}, "was drawn on an image of (8, 99) pixels"),
        (region("bitmasklabels", "fig", imageDataURL="data:image/png;base64,"), "is a bitmask"),
        (region("ellipselabels", "fig", x=1, y=1, radiusX="9", radiusY=1), "have to be finite numbers"),
        (region("ellipselabels", "fig", x=1, y=1, radiusX=10**400, radiusY=1), "have to be finite numbers"),
        ({**polygon(), "value": {"points": SQUARE, "polygonlabels": ["a", "b"]}}, "needs one label, but has a, b"),
    ],
)
def test_region_that_cannot_be_drawn_is_a_defect(tmp_path: Path, result: Any, message: str) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    export(tmp_path, task(1, "a.jpg", annotation(polygon(), result)), task(2, "b.jpg", annotation(polygon("a"))))
    with pytest.raises(DefectError) as caught:
        check_dataset(opened(tmp_path))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**task(2, "b.jpg", annotation()), "annotations": {"a": 1}}, "annotations have to be a list"),
        (task(2, "b.jpg", {"completed_by": 1, "result": "x"}), "result of an annotation has to be a list"),
        (task(2, "b.txt", annotation()), "needs the path of one image among its data, but has none"),
        ({**task(2, "", annotation()), "data": {"l": "a.jpg", "r": "b.jpg"}}, "but has a.jpg, b.jpg"),
        ("text", "is not an object"),
        (task(2, "../../etc/passwd.jpg", annotation()), "which is not in the dataset"),
    ],
)
def test_task_that_cannot_be_listed_is_a_defect(tmp_path: Path, entry: Any, message: str) -> None:
    with_images(tmp_path, "a.jpg")
    file = export(tmp_path, task(1, "a.jpg", annotation(polygon())), entry)
    _, defects = open_with_defects(tmp_path, DataConfig())
    assert [(defect.file, message in defect.detail) for defect in defects] == [(file, True)]
    assert defects[0].kind in (DefectKind.BAD_ANNOTATION, DefectKind.MISSING_IMAGE)


CONFIG = """<View><Image name="image" value="$image"/>
  <BrushLabels name="label" toName="image">
    <Label value="sign" background="#102030"/><Label value="a" alias="fig"/>
  </BrushLabels>
  <RectangleLabels name="box" toName="image"><Label value="text"/></RectangleLabels></View>"""


def test_a_labelling_configuration_next_to_the_file_has_the_labels_in_their_order(tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    export(tmp_path, task(1, "a.jpg", annotation(polygon())), task(2, "b.jpg", annotation(polygon())))
    write(tmp_path / "label_config.xml", CONFIG)
    dataset = opened(tmp_path)
    assert dataset.classes.names == ("background", "sign", "fig")
    assert dataset.classes.colors[1] == (16, 32, 48)
    assert has_note(dataset, "no region has the classes 'sign'")


@pytest.mark.parametrize(
    ("text", "detail"), [("<!DOCTYPE View><View/>", "has a document type"), ("<View>", "not readable as XML")]
)
def test_one_that_cannot_be_read_is_a_defect(text: str, detail: str, tmp_path: Path) -> None:
    with_images(tmp_path, "a.jpg", "b.jpg")
    export(tmp_path, task(1, "a.jpg", annotation(polygon())), task(2, "b.jpg", annotation(polygon())))
    file = write(tmp_path / "label_config.xml", text)
    (defect,) = open_with_defects(tmp_path, DataConfig())[1]
    assert (defect.kind, defect.file) == (DefectKind.BAD_ANNOTATION, file) and detail in defect.detail
