"""Roboflow's supervision reads what we write, and we read what it writes."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("supervision", reason="make test-clients")

import supervision as sv

from made_labels import CLASSES, PLACES, labels, names_of, pixels, read_names, write_source
from pyramidseg.formats.convert_dataset import convert_dataset

pytestmark = pytest.mark.filterwarnings("default")  # of the library


def drawn(dataset: "sv.DetectionDataset", names: dict[int, str]) -> dict[str, NDArray[np.str_]]:
    """Class names of every pixel, by the image's name."""
    found = {}
    for path, image, detections in dataset:
        values = np.full(image.shape[:2], "background", object)
        order = np.argsort([-mask.sum() for mask in detections.mask])
        for at in order:
            values[detections.mask[at].astype(bool)] = names[int(detections.class_id[at])]
        found[Path(path).stem] = values
    return found


@pytest.mark.parametrize("to", ["coco", "coco-polygons", "yolo"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_it_reads_the_labels(to: str, split: str, tmp_path: Path) -> None:
    """Run lengths equal; OpenCV fills the pixels under an outline too, at the right and the lower border."""
    convert_dataset(write_source(tmp_path / "in"), to=to, out=tmp_path / "out")
    images = str(tmp_path / "out" / "images" / split)
    if to == "yolo":
        folder, file = str(tmp_path / "out" / "labels" / split), str(tmp_path / "out" / "data.yaml")
        dataset = sv.DetectionDataset.from_yolo(images, folder, file, force_masks=True)
    else:
        file = str(tmp_path / "out" / "annotations" / f"instances_{split}.json")
        dataset = sv.DetectionDataset.from_coco(images, file, force_masks=True)
    found = drawn(dataset, dict(enumerate(dataset.classes)))
    assert found.keys() == {name for place, name in PLACES if place == split}
    for name, values in found.items():
        expected = names_of(labels(name))
        if to == "coco":
            np.testing.assert_array_equal(values, expected)
            continue
        inner = np.zeros(expected.shape, bool)  # pixels whose neighbours left and above are of their class
        inner[1:, 1:] = (expected[1:, 1:] == expected[:-1, 1:]) & (expected[1:, 1:] == expected[1:, :-1])
        inner[1:, 1:] &= expected[1:, 1:] == expected[:-1, :-1]
        np.testing.assert_array_equal(values[inner], expected[inner])


@pytest.mark.parametrize("kind", ["coco", "yolo"])
def test_what_it_writes_is_read(kind: str, tmp_path: Path) -> None:
    """Run lengths equal. Its polygons lead through the centres of border pixels, which are lost at two sides."""
    for split in ("train", "val"):
        names = [name for place, name in PLACES if place == split]
        (tmp_path / "in").mkdir(exist_ok=True)
        detections = {}
        for name in names:
            Image.fromarray(pixels(name)).save(tmp_path / "in" / f"{name}.png")
            values = [value for value in range(1, len(CLASSES)) if (labels(name) == value).any()]
            masks = np.stack([labels(name) == value for value in values])
            detections[str(tmp_path / "in" / f"{name}.png")] = sv.Detections(
                xyxy=sv.mask_to_xyxy(masks), mask=masks, class_id=np.array(values) - 1
            )
        dataset = sv.DetectionDataset(list(CLASSES[1:]), [*detections], detections)
        if kind == "coco":
            dataset.as_coco(str(tmp_path / "out" / split), str(tmp_path / "out" / split / "_annotations.coco.json"))
        else:
            place = tmp_path / "out" / split
            dataset.as_yolo(str(place / "images"), str(place / "labels"), str(tmp_path / "out" / "data.yaml"))
    if kind == "yolo":
        with (tmp_path / "out" / "data.yaml").open("a") as file:
            file.write("train: train/images\nval: val/images\n")
    found = read_names(tmp_path / "out")
    for _, name in PLACES:
        expected = names_of(labels(name))
        if kind == "coco":  # run lengths, as the masks have several parts
            np.testing.assert_array_equal(found[name], expected)
        assert set(np.unique(found[name])) <= set(CLASSES)
        assert (found[name] == expected).mean() > 0.75
