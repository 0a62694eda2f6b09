"""CVAT's SDK decodes the masks of the annotations.xml that we write, as its server takes them in."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("cvat_sdk", reason="make test-clients")

from cvat_sdk.masks import decode_mask, encode_mask

from made_labels import CLASSES, PLACES, labels, write_source
from pyramidseg.formats.convert_dataset import convert_dataset

pytestmark = pytest.mark.filterwarnings("default")  # of the library


def test_masks_are_the_labels_and_as_the_sdk_encodes_them(tmp_path: Path) -> None:
    convert_dataset(write_source(tmp_path / "in"), to="cvat-images", out=tmp_path / "out")
    frames = {frame.get("name"): frame for frame in ElementTree.parse(tmp_path / "out/annotations.xml").iter("image")}
    assert frames.keys() == {f"{split}/{name}.png" for split, name in PLACES}
    for split, name in PLACES:
        drawn = np.zeros_like(labels(name))
        for mask in frames[f"{split}/{name}.png"].iter("mask"):
            left, top, width, height = (int(mask.attrib[key]) for key in ("left", "top", "width", "height"))
            runs = [float(run) for run in mask.attrib["rle"].split(",")]
            points = [*runs, left, top, left + width - 1, top + height - 1]  # CVAT's boxes are inclusive
            pixels = decode_mask(points, image_width=drawn.shape[1], image_height=drawn.shape[0])
            assert encode_mask(pixels, [left, top, left + width, top + height]) == points
            assert not drawn[pixels].any()
            drawn[pixels] = CLASSES.index(mask.attrib["label"])
        np.testing.assert_array_equal(drawn, labels(name))
