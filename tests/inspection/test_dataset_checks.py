"""Checks across pairs that test_inspect_dataset does not cover."""

from pathlib import Path

import numpy as np
import pytest

from made_geo import UTM, box, feature, on_map, polygon, write_geojson, write_image
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.records import Record
from pyramidseg.formats.geojson.geojson_masks import GeoJsonMasks
from pyramidseg.inspection.dataset_checks import unmatched_geojson_remarks

MASKS = ClassMasks.identity(2)
DRAWN = ClassMasks(ids=((0, 0), (1, 1)), values=GeoJsonMasks(("background", "building"), {}))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "a.tif", np.zeros((40, 60, 3), np.uint8))


def test_geojson_file_without_areas_on_its_image_is_reported_unless_it_is_shared(image: Path) -> None:
    on, off = (
        write_geojson(image.with_name(f"{name}.geojson"), [feature(polygon(on_map(box(x, 2, x + 5, 9))))], crs=UTM)
        for name, x in (("on", 2), ("off", 900))
    )
    records = [Record("on", image, on), Record("off", image, off)]
    (remark,) = unmatched_geojson_remarks(records, DRAWN)
    assert remark.startswith("all areas of 1 GeoJSON files are outside their image") and remark.endswith(str(off))
    assert not list(unmatched_geojson_remarks([Record("a", image, off), Record("b", image, off)], DRAWN))
    assert not list(unmatched_geojson_remarks(records, MASKS))
