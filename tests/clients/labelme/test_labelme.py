"""LabelMe's own code reads and draws what we write, and we read what it writes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("labelme", reason="make test-clients")

from labelme._label_file import read_label_file, write_label_file
from labelme.utils import img_arr_to_b64, shapes_to_label

from made_labels import CLASSES, PLACES, labels, names_of, pixels, read_names, write_source
from pyramidseg.formats.convert_dataset import convert_dataset

pytestmark = pytest.mark.filterwarnings("default")  # of the library


def test_labelme_draws_what_we_write(tmp_path: Path) -> None:
    """Equal but for the pixels under an outline, at the right and the lower border, which Pillow fills too."""
    convert_dataset(write_source(tmp_path / "in"), to="labelme", out=tmp_path / "out")
    kinds = set()
    for split, name in PLACES:
        file = read_label_file(str(tmp_path / "out" / split / f"{name}.json"))
        assert file.image_path == f"{name}.png"
        kinds.update(shape["shape_type"] for shape in file.shapes)
        numbers = {label: number for number, label in enumerate(CLASSES)}
        drawn, _ = shapes_to_label(labels(name).shape, file.shapes, numbers)
        expected = labels(name)
        same = np.zeros(expected.shape, bool)  # pixels whose neighbours left and above are of their class
        same[1:, 1:] = expected[1:, 1:] == expected[:-1, 1:]
        same[1:, 1:] &= (expected[1:, 1:] == expected[1:, :-1]) & (expected[1:, 1:] == expected[:-1, :-1])
        np.testing.assert_array_equal(drawn[same], expected[same])
    assert kinds == {"polygon", "mask"}


def test_masks_that_labelme_writes_are_read_with_equal_pixels(tmp_path: Path) -> None:
    for split, name in PLACES:
        folder = tmp_path / "out" / split
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(name)).save(folder / f"{name}.png")
        shapes = []
        for value in range(1, len(CLASSES)):
            mask = labels(name) == value
            rows, columns = np.nonzero(mask)
            top, left, bottom, right = (int(v) for v in (rows.min(), columns.min(), rows.max(), columns.max()))
            shape = {"label": CLASSES[value], "shape_type": "mask", "points": [[left, top], [right, bottom]]}
            crop = mask[top : bottom + 1, left : right + 1]
            text = img_arr_to_b64(crop.astype(np.uint8))
            shapes.append(shape | {"mask": text, "flags": {}, "description": "", "group_id": None})
        height, width = labels(name).shape
        path = str(folder / f"{name}.json")
        write_label_file(path, shapes=shapes, image_path=f"{name}.png", image_height=height, image_width=width)
    found = read_names(tmp_path / "out")
    for _, name in PLACES:
        np.testing.assert_array_equal(found[name], names_of(labels(name)))
