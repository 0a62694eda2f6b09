"""Places on a map: read as they were written, moved between coordinate systems as formulas say, written back."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from made_geo import TRANSFORM, UTM, write_image
from pyramidseg.base.errors import DataError, MissingExtra
from pyramidseg.data.index_masks import read_mask_values
from pyramidseg.images.georeference import (
    Georeference,
    encode_geotiff,
    is_geographic,
    parse_crs,
    read_georeference,
    reproject,
)
from pyramidseg.images.open_image import apply_orientation

SPHERE = 6378137.0


def web_mercator(longitude_latitude: np.ndarray) -> np.ndarray:
    """EPSG:3857 by its formula."""
    longitude, latitude = np.radians(longitude_latitude).T
    return np.stack([SPHERE * longitude, SPHERE * np.log(np.tan(np.pi / 4 + latitude / 2))], axis=1)


@given(st.lists(st.tuples(st.floats(-179, 179), st.floats(-80, 80)), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_reprojection_follows_the_formula(points: list[tuple[float, float]]) -> None:
    degrees = np.array(points)
    wgs84, mercator = parse_crs("EPSG:4326"), parse_crs("EPSG:3857")
    moved = reproject(degrees, source=wgs84, target=mercator)
    assert np.abs(moved - web_mercator(degrees)).max() < 1e-3
    assert np.abs(reproject(moved, source=mercator, target=wgs84) - degrees).max() < 1e-8


def test_x_is_the_longitude_whatever_the_authority_says() -> None:
    centre = reproject(np.array([(-87.0, 0.0)]), source=parse_crs("EPSG:4326"), target=parse_crs(UTM))
    assert np.abs(centre - (500000, 0)).max() < 1e-6


def test_points_without_a_place_are_refused() -> None:
    with pytest.raises(DataError, match="coordinates cannot be transformed to the image's coordinate system"):
        reproject(np.array([(0.0, 733601.0)]), source=parse_crs("EPSG:4326"), target=parse_crs(UTM))


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("urn:ogc:def:crs:EPSG::32616", "EPSG:32616"),
        ("urn:ogc:def:crs:EPSG:6.6:32616", "EPSG:32616"),
        ("urn:ogc:def:crs:EPSG:32616", "EPSG:32616"),
        ("urn:ogc:def:crs:EPSG:EPSG:32616", "EPSG:32616"),
        ("URN:OGC:DEF:CRS:EPSG::32616", "EPSG:32616"),
        ("urn:ogc:def:crs:OGC:1.3:CRS84", "OGC:CRS84"),
        ("+proj=utm +zone=16 +datum=WGS84", "+proj=utm +zone=16 +datum=WGS84"),
    ],
)
def test_coordinate_systems_are_known_by_the_names_that_people_write(name: str, same: str) -> None:
    assert parse_crs(name) == parse_crs(same)
    assert is_geographic(parse_crs(name)) == ("CRS84" in name)


@pytest.mark.parametrize("name", ["", "EPSG:", "EPSG:99999999", "nonsense", "urn:ogc:def:crs:", "x" * 9000])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="is not a known coordinate system; use a code such as EPSG:32616"):
        parse_crs(name)


def test_a_name_is_never_taken_for_a_file(tmp_path: Path) -> None:
    file = tmp_path / "crs.wkt"
    file.write_text(parse_crs(UTM))
    for name in (str(file), f"@{file}", f"/vsicurl/{file}", f"urn:ogc:def:crs:{file}"):
        with pytest.raises(DataError, match="is not a known coordinate system"):
            parse_crs(name)


@pytest.mark.parametrize("transform", [TRANSFORM, (30.0, 2.0, -7e5, -3.0, -29.0, 2e6)])
def test_a_geotiff_says_where_it_lies(tmp_path: Path, transform: Any) -> None:
    path = write_image(tmp_path / "a.tif", np.zeros((6, 9, 2), np.uint16), transform=transform)
    place = read_georeference(path)
    assert place is not None
    assert place.transform == pytest.approx(transform)
    assert place.crs == parse_crs(UTM)
    with rasterio.open(path) as file:
        assert place.bounds(6, 9)[:2] == pytest.approx(place.to_map(np.array([(0, 6), (9, 6), (0, 0)])).min(axis=0))
        pixels = np.array([(0.5, 0.5), (3.25, 4.0), (9.0, 6.0)])
        expected = [file.xy(y, x, offset="ul") for x, y in pixels]
    assert np.allclose(place.to_map(pixels), expected)
    assert np.allclose(place.to_pixels(place.to_map(pixels)), pixels)


def test_images_that_do_not_say_have_no_place(tmp_path: Path) -> None:
    import tifffile
    from PIL import Image

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 9), np.uint8))
    Image.new("L", (6, 9)).save(tmp_path / "a.png")
    assert read_georeference(tmp_path / "a.tif") is None
    assert read_georeference(tmp_path / "a.png") is None


def test_without_rasterio_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_image(tmp_path / "a.tif", np.zeros((6, 9, 2), np.uint16))
    monkeypatch.setitem(sys.modules, "rasterio.warp", None)
    with pytest.raises(MissingExtra, match=r"a\.tif: its georeference needs rasterio, .* 'pyramidseg\[geo\]'"):
        read_georeference(path)


@pytest.mark.parametrize("size", [(6, 9), (300, 400)])
def test_labels_are_written_with_place_and_colours(tmp_path: Path, size: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 4, size, np.uint8)
    palette = np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
    place = Georeference(parse_crs(UTM), TRANSFORM)  # type: ignore[arg-type]
    (tmp_path / "a.tif").write_bytes(encode_geotiff(labels, place, palette=palette, tags={"TIFFTAG_SOFTWARE": "us"}))
    with rasterio.open(tmp_path / "a.tif") as file:
        assert np.array_equal(file.read(1), labels)
        assert file.crs == rasterio.crs.CRS.from_string(UTM)
        assert tuple(file.transform)[:6] == TRANSFORM
        assert file.colormap(1)[3][:3] == tuple(palette[3])
        assert file.tags()["TIFFTAG_SOFTWARE"] == "us"
    assert np.array_equal(read_mask_values(tmp_path / "a.tif"), labels)
    assert read_georeference(tmp_path / "a.tif") == place


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_of_a_turned_image_are_turned_back(orientation: int) -> None:
    stored = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9)
    place = Georeference(parse_crs(UTM), TRANSFORM, orientation)  # type: ignore[arg-type]
    content = encode_geotiff(
        apply_orientation(stored, orientation), place, palette=np.zeros((256, 3), np.uint8), tags={}
    )
    with rasterio.MemoryFile(content) as memory, memory.open() as file:
        assert np.array_equal(file.read(1), stored)
