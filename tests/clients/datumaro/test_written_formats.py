"""What we write is read by datumaro with equal pixels, and what it writes is read by us."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("datumaro", reason="make test-clients")

import datumaro as dm
from rasterio.features import rasterize

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import DataConfig
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.open_dataset import open_dataset

pytestmark = pytest.mark.filterwarnings("default")  # of the library

CLASSES = ("background", "car", "tree", "wet road")


def labels(seed: int, height: int = 37, width: int = 52) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, len(CLASSES), (height // 5 + 1, width // 5 + 1), np.uint8)
    return coarse.repeat(5, 0).repeat(5, 1)[:height, :width]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    for number, (split, name) in enumerate([("train", "a"), ("train", "b"), ("val", "c")]):
        values = labels(number)
        pixels = np.random.default_rng(number).integers(0, 256, (*values.shape, 3), np.uint8)
        for kind, content in (("images", pixels), ("masks", values)):
            path = folder / split / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"classes": list(CLASSES)}))
    return folder


FORMATS = {
    "cvat-images": "cvat",
    "coco": "coco_instances",
    "coco-panoptic": "coco_panoptic",
    "cvat-masks": "voc_segmentation",
}


@pytest.mark.parametrize("to", FORMATS)
def test_datumaro_reads_equal_pixels(to: str, source: Path, tmp_path: Path) -> None:
    convert_dataset(source, to=to, out=tmp_path / "out")
    if to == "cvat-masks":  # CVAT has the images, and imports the zip file with datumaro
        (tmp_path / "out" / "masks.zip").rename(tmp_path / "masks.zip")
        shutil.rmtree(tmp_path / "out")
        zipfile.ZipFile(tmp_path / "masks.zip").extractall(tmp_path / "out")
    dataset = dm.Dataset.import_from(str(tmp_path / "out"), FORMATS[to])
    names = [label.name for label in dataset.categories()[dm.AnnotationType.label]]
    found = {}
    for item in dataset:
        height, width = labels(0).shape
        drawn = np.full((height, width), "background", object)
        for annotation in sorted(item.annotations, key=lambda one: getattr(one, "z_order", 0)):
            if annotation.type in (dm.AnnotationType.mask, dm.AnnotationType.polygon):
                drawn[np.asarray(annotation.image, bool)] = names[annotation.label]
        found[Path(item.id).name] = drawn
    assert found.keys() == {"a", "b", "c"}
    for number, name in enumerate("abc"):
        expected = np.array(CLASSES)[labels(number)]
        assert (found[name] == expected).all(), name


@pytest.mark.parametrize("format", ["cvat", "coco_panoptic", "voc_segmentation", "coco_instances"])
def test_what_datumaro_writes_is_read_equal(format: str, tmp_path: Path) -> None:
    items = []
    for number, (split, name) in enumerate([("train", "a"), ("train", "b"), ("val", "c")]):
        values = labels(number)
        pixels = np.random.default_rng(number).integers(0, 256, (*values.shape, 3), np.uint8)
        masks = [
            dm.Mask(image=values == value, label=value, id=value, group=value)
            for value in range(1, len(CLASSES))
            if (values == value).any()
        ]
        image = dm.Image.from_numpy(data=pixels)
        items.append(dm.DatasetItem(id=name, subset=split, media=image, annotations=masks, attributes={"id": number}))
    dataset = dm.Dataset.from_iterable(items, categories=list(CLASSES))
    dataset.export(str(tmp_path / "out"), format, save_media=True)
    opened = open_dataset(tmp_path / "out", DataConfig())
    for number, name in enumerate("abc"):
        (record,) = [it for some in opened.splits.values() for it in some if Path(it.id).name == name]
        read = read_labels(record, opened.masks)
        read_names = np.array([*opened.classes.names, *["?"] * (IGNORE - len(opened.classes)), "background"])[read]
        assert (read_names == np.array(CLASSES)[labels(number)]).all(), name


@pytest.mark.parametrize("format", ["cvat", "coco_instances"])
def test_polygons_that_datumaro_writes_are_drawn_by_the_rule_of_pixel_centres(format: str, tmp_path: Path) -> None:
    height, width = labels(0).shape
    items, expected = [], {}
    for number, (split, name) in enumerate([("train", "a"), ("train", "b"), ("val", "c")]):
        generator, shapes, polygons = np.random.default_rng(number), [], []
        for value, (x, y) in enumerate([(14, 18), (38, 18), (26, 6)], start=1):  # apart from each other
            angles = np.sort(generator.uniform(0, 2 * np.pi, 7))
            radius = 5 if value == 3 else 11
            ring = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1).round(2)
            shapes.append(({"type": "Polygon", "coordinates": [np.append(ring, ring[:1], 0).tolist()]}, value))
            polygons.append(dm.Polygon(ring.ravel().tolist(), label=value, id=value, group=value, z_order=value))
        expected[name] = np.array(CLASSES)[rasterize(shapes, out_shape=(height, width))]
        image = dm.Image.from_numpy(data=np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8))
        items.append(
            dm.DatasetItem(id=name, subset=split, media=image, annotations=polygons, attributes={"id": number})
        )
    dm.Dataset.from_iterable(items, categories=list(CLASSES)).export(str(tmp_path / "out"), format, save_media=True)
    opened = open_dataset(tmp_path / "out", DataConfig())
    names = np.array(opened.classes.names)
    found = {
        Path(one.id).name: names[read_labels(one, opened.masks)] for some in opened.splits.values() for one in some
    }
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
