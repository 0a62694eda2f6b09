"""Areas that lie beside their image."""

from pathlib import Path

import numpy as np
import pytest

from made_geo import UTM, box, feature, on_map, polygon, write_geojson, write_image
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.records import Record
from pyramidseg.formats.geojson.geojson_masks import GeoJsonValues
from pyramidseg.inspection.pair_inspection import areas_elsewhere

MASKS = ClassMasks.identity(2)
DRAWN = ClassMasks(ids=((0, 0), (1, 1)), values=GeoJsonValues(("background", "building"), {}))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "a.tif", np.zeros((40, 60, 3), np.uint8))


def test_a_file_of_one_image_that_misses_it_is_told_and_a_shared_one_is_not(image: Path) -> None:
    on, beside = (
        write_geojson(image.with_name(f"{name}.geojson"), [feature(polygon(on_map(box(x, 2, x + 5, 9))))], crs=UTM)
        for name, x in (("on", 2), ("beside", 900))
    )
    records = [Record("on", image, on), Record("beside", image, beside)]
    (remark,) = areas_elsewhere(records, DRAWN)
    assert remark.startswith("the areas of 1 GeoJSON files lie outside their image") and remark.endswith(str(beside))
    assert not list(areas_elsewhere([Record("a", image, beside), Record("b", image, beside)], DRAWN))
    assert not list(areas_elsewhere(records, MASKS))
