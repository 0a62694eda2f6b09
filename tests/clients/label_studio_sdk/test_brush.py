"""Label Studio's own converter reads our brush regions, and we read its."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("label_studio_sdk", reason="make test-clients")

from label_studio_sdk.converter import brush
from label_studio_sdk.label_interface import LabelInterface

from pyramidseg.annotations.brush_rle import decode_brush, encode_brush
from pyramidseg.annotations.polygons import Location
from pyramidseg.base.classes import Classes
from pyramidseg.formats.label_studio_writer import brush_regions, label_config

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
