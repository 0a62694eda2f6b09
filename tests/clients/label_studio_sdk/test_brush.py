"""Label Studio's own converter reads our brushes and polygons, and we its brushes, also as masks named after tasks."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("label_studio_sdk", reason="make test-clients")

from label_studio_sdk.converter import Converter, brush
from label_studio_sdk.converter.imports.coco import convert_coco_to_ls
from label_studio_sdk.label_interface import LabelInterface
from rasterio.features import rasterize

from pyramidseg.annotations.brush_rle import decode_brush, encode_brush
from pyramidseg.annotations.polygons import Location
from pyramidseg.base.classes import Classes
from pyramidseg.base.config import DataConfig
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.label_studio.label_studio_writer import brush_regions, label_config
from pyramidseg.formats.open_dataset import open_dataset

WHERE = Location(Path("tasks.json"))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_the_sdk_decodes_what_we_encode_and_the_reverse(share: float) -> None:
    pixels = np.random.default_rng(1).random((23, 31)) < share
    words = np.asarray(brush.decode_rle(encode_brush(pixels))).reshape(23, 31, 4)
    assert np.array_equal(words, np.repeat(255 * pixels.astype(np.uint8)[..., None], 4, axis=2))
    theirs = brush.mask2rle(255 * pixels.astype(np.uint8))
    assert np.array_equal(decode_brush(theirs, height=23, width=31, where=WHERE), pixels)


def test_regions_fit_the_labelling_config() -> None:
    classes = Classes.from_names(["background", 'wet "road" & kerb', "tree"])
    interface = LabelInterface(label_config(classes))
    labels = np.random.default_rng(0).integers(0, 3, (12, 20), np.uint8)
    regions = brush_regions(labels, {1: classes.names[1], 2: classes.names[2]})
    prediction = {"model_version": "1", "score": 0.9, "result": json.loads(json.dumps(regions))}
    assert interface.validate_prediction(prediction)


def test_labels_for_a_project_of_other_names_are_valid_in_it(tmp_path: Path) -> None:
    config = """<View><Image name="photo" value="$url"/>
      <BrushLabels name="surface" toName="photo"><Label value="Street" predicted_values="road"/></BrushLabels>
      <PolygonLabels name="outline" toName="photo"><Label value="ROAD"/><Label value="Tree"/></PolygonLabels>
      <BrushLabels name="more" toName="photo"><Label value="Tree"/></BrushLabels></View>"""
    (tmp_path / "project.xml").write_text(config)
    for part, values in (("images", np.zeros((12, 20), np.uint8)), ("masks", np.arange(240).reshape(12, 20) % 7 % 3)):
        (tmp_path / "source" / "train" / part).mkdir(parents=True)
        Image.fromarray(values.astype(np.uint8)).save(tmp_path / "source" / "train" / part / "a.png")
    (tmp_path / "source" / "dataset.yaml").write_text("classes: [background, road, tree]")
    interface = LabelInterface(config)
    for to in ("label-studio", "label-studio-polygons"):
        convert_dataset(tmp_path / "source", to=to, out=tmp_path / to, label_config=tmp_path / "project.xml")
        (task,) = json.loads((tmp_path / to / "train.json").read_text())
        (annotation,) = task.pop("annotations")
        assert annotation["result"] and interface.validate_task(task)
        assert interface.validate_prediction(annotation, return_errors=True) == []


@pytest.mark.parametrize("kind", ["BRUSH_TO_PNG", "BRUSH_TO_NUMPY"])
@pytest.mark.parametrize("with_json", ["JSON", "JSON_MIN"])
def test_masks_that_the_sdk_names_after_tasks_are_read_equal(tmp_path: Path, kind: str, with_json: str) -> None:
    names = ["background", "tree-top", 'wet "road"/kerb']
    for seed in range(6):
        pixels = np.random.default_rng(seed).integers(0, 3, (5, 6), np.uint8).repeat(4, 0).repeat(3, 1)
        for part, values in (("images", pixels * 90), ("masks", pixels)):
            (tmp_path / "source" / "train" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(tmp_path / "source" / "train" / part / f"{seed}.png")
    (tmp_path / "source" / "dataset.yaml").write_text(json.dumps({"classes": names}))
    convert_dataset(tmp_path / "source", to="label-studio", out=tmp_path / "out", data=DataConfig(val_share=0.3))
    export = tmp_path / "export"
    export.mkdir()
    (tmp_path / "out" / "images").rename(export / "images")
    tasks = [
        task for split in ("train", "val") for task in json.loads((tmp_path / "out" / f"{split}.json").read_text())
    ]
    for number, task in enumerate(tasks, start=31):
        task["id"] = number
        task["annotations"][0] |= {"id": 2 * number, "completed_by": {"id": 1, "email": "a-b.c@host.org"}}
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    (tmp_path / "brushes").mkdir()
    converter = Converter((tmp_path / "out" / "label_config.xml").read_text(), str(tmp_path))
    converter.convert(str(tmp_path / "tasks.json"), str(tmp_path / "brushes"), kind, is_dir=False)
    converter.convert(str(tmp_path / "tasks.json"), str(tmp_path / "json"), with_json, is_dir=False)
    (made,) = (tmp_path / "json").glob("*.json")
    made.rename(export / "project.json")
    (tmp_path / "brushes").rename(export / "brushes")
    assert len([*(export / "brushes").glob("task-*-annotation-*-by-ab.c@host.org-label-*-0.*")]) == 12
    found = [open_dataset(folder, DataConfig()) for folder in (tmp_path / "source", export)]
    assert any("brushes are read from 12 masks" in note for note in found[1].notes)
    first, second = (
        {record.image.name: read_labels(record, dataset.masks) for some in dataset.splits.values() for record in some}
        for dataset in found
    )
    assert first.keys() == second.keys() and found[0].classes.names == found[1].classes.names == (*names,)
    assert all(np.array_equal(first[name], second[name]) for name in first)


STRIPES = {
    seed: np.where(
        np.arange(49) % 7, np.random.default_rng(seed).integers(0, 3, (5, 7), np.uint8).repeat(9, 0).repeat(7, 1), 0
    )
    for seed in range(4)
}
"""No region surrounds another."""


def write_stripes(folder: Path) -> None:
    for seed, labels in STRIPES.items():
        for part, values in (("images", labels * 90), ("masks", labels)):
            (folder / "train" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(folder / "train" / part / f"{seed}.png")
    (folder / "dataset.yaml").write_text(json.dumps({"classes": ["background", "tree", "road"]}))


def test_polygons_that_the_sdk_converts_to_coco_are_the_labels(tmp_path: Path) -> None:
    """Regions without holes: their outlines in percent, drawn by the rule of pixel centres, are the pixels again."""
    write_stripes(tmp_path / "source")
    convert_dataset(
        tmp_path / "source", to="label-studio-polygons", out=tmp_path / "out", data=DataConfig(val_share=0.3)
    )
    tasks = [
        task for split in ("train", "val") for task in json.loads((tmp_path / "out" / f"{split}.json").read_text())
    ]
    for number, task in enumerate(tasks):
        task["id"] = number
        task["annotations"][0] |= {"id": number, "completed_by": 1}
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    converter = Converter((tmp_path / "out" / "label_config.xml").read_text(), str(tmp_path), download_resources=False)
    converter.convert(str(tmp_path / "tasks.json"), str(tmp_path / "coco"), "COCO", is_dir=False)
    found = json.loads((tmp_path / "coco" / "result.json").read_text())
    names = {category["id"]: category["name"] for category in found["categories"]}
    assert len(found["images"]) == 4
    for image in found["images"]:
        rings = [
            (np.reshape(ring, (-1, 2)), ["tree", "road"].index(names[annotation["category_id"]]) + 1)
            for annotation in found["annotations"]
            if annotation["image_id"] == image["id"]
            for ring in annotation["segmentation"]
        ]
        shapes = [
            ({"type": "Polygon", "coordinates": [np.append(ring, ring[:1], 0).tolist()]}, value)
            for ring, value in rings
        ]
        drawn = rasterize(shapes, out_shape=(image["height"], image["width"]))
        np.testing.assert_array_equal(drawn, STRIPES[int(Path(image["file_name"]).stem)])


def test_polygons_that_the_sdk_converts_from_coco_are_read_equal(tmp_path: Path) -> None:
    """Its percentages are floats: a corner on a pixel centre may be on either side, and ours are never on one."""
    write_stripes(tmp_path / "source")
    convert_dataset(tmp_path / "source", to="coco-polygons", out=tmp_path / "out", data=DataConfig(val_share=0.3))
    for split in ("train", "val"):
        (tmp_path / "export" / split).mkdir(parents=True)
        made = tmp_path / "export" / split / "tasks.json"
        coco = tmp_path / "out" / "annotations" / f"instances_{split}.json"
        convert_coco_to_ls(str(coco), str(made), out_type="annotations", image_root_url="/data/local-files/?d=images")
        (tmp_path / "out" / "images" / split).rename(tmp_path / "export" / split / "images")
    dataset = open_dataset(tmp_path / "export", DataConfig())
    names = np.array(dataset.classes.names)
    found = {one.image.stem: names[read_labels(one, dataset.masks)] for some in dataset.splits.values() for one in some}
    assert found.keys() == {"0", "1", "2", "3"}
    for seed, labels in STRIPES.items():
        np.testing.assert_array_equal(found[str(seed)], np.array(["background", "tree", "road"])[labels])
