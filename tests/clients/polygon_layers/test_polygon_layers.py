"""GeoPackage, FlatGeobuf, GeoParquet and GeoJSON, opened by GDAL (pyogrio), GeoPandas, shapely, pyproj and SQLite."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyogrio", reason="make test-clients")

import geopandas
import pyarrow.parquet
import pyogrio
import pyproj
import rasterio
import shapely
from rasterio.features import rasterize, shapes

from made_backends import Brightness
from made_geo import TRANSFORM, UTM, write_image
from pyramidseg.annotations.contours import find_regions
from pyramidseg.base.classes import Classes
from pyramidseg.base.config import DataConfig
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.images.georeference import Georeference, parse_crs
from pyramidseg.predict.outputs.ownership import is_ours
from pyramidseg.predict.outputs.polygon_layers import POLYGON_FORMATS, PolygonOptions, write_polygons
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.segmentation import Segmentation

NAMES = ("background", "field", "Straße, wet")
BINARY = [name for name in POLYGON_FORMATS if name != "geojson"]
MERCATOR = (0.3, 0.0, 1113194.9, 0.0, -0.3, 6446275.0)


def labels_of(seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, (13, 17), np.uint8).repeat(4, 0).repeat(4, 1)
    return np.where(generator.random(labels.shape) < 0.05, 2, labels).astype(np.uint8)


def written(folder: Path, crs: str, transform: tuple[float, ...] = TRANSFORM, **options: Any) -> tuple[Path, Any]:
    place = Georeference(parse_crs(crs), transform) if crs else None
    labels = labels_of()
    confidence = np.linspace(0.5, 1, labels.size, dtype=np.float32).reshape(labels.shape)
    found = Segmentation(labels, Classes.from_names(NAMES), confidence, georeference=place)
    chosen = PolygonOptions(**options)
    path = folder / f"a{POLYGON_FORMATS[chosen.format]}"
    counts = write_polygons(path, found, chosen)
    assert counts["invalid"] == 0 and is_ours(path)
    table = geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)
    assert len(table) == counts["polygons"]
    return path, table


def drawn(table: Any, transform: tuple[float, ...]) -> np.ndarray:
    shapes = [(shape, NAMES.index(name)) for shape, name in zip(table.geometry, table["class"], strict=True)]
    return np.asarray(rasterize(shapes, out_shape=labels_of().shape, transform=rasterio.Affine(*transform)))


@pytest.mark.parametrize("crs", [UTM, "EPSG:3857", ""])
@pytest.mark.parametrize("format", BINARY)
def test_gdal_draws_the_same_labels(format: str, crs: str, tmp_path: Path) -> None:
    transform = MERCATOR if crs == "EPSG:3857" else TRANSFORM
    _, table = written(tmp_path, crs, transform, format=format)
    np.testing.assert_array_equal(drawn(table, transform if crs else (1, 0, 0, 0, 1, 0)), labels_of())
    assert set(table.geom_type) == {"Polygon"} and table.geometry.is_valid.all()
    assert all(shape.exterior.is_ccw for shape in table.geometry)
    assert table["pixels"].sum() == int((labels_of() > 0).sum())
    assert table["confidence"].between(0.5, 1).all() and table["area_m2"].isna().all() != bool(crs)
    if crs:
        assert table.crs == pyproj.CRS(crs)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("format", POLYGON_FORMATS)
def test_simplified_polygons_are_valid_and_have_neither_gaps_nor_overlaps(
    format: str, tolerance: float, tmp_path: Path
) -> None:
    _, table = written(tmp_path, UTM, format=format, simplify_px=tolerance)
    regions = find_regions(labels_of(), simplify_px=tolerance)
    polygons = [shapely.Polygon(region.rings[0], region.rings[1:]) for region in regions]
    assert shapely.is_valid(polygons).all() and shapely.coverage_is_valid(polygons)
    assert shapely.union_all(polygons).area == pytest.approx(labels_of().size, abs=1e-6)
    assert shapely.coverage_is_valid(table.geometry.to_numpy())


@pytest.mark.parametrize("crs", [UTM, ""])
@pytest.mark.parametrize("format", POLYGON_FORMATS)
def test_polygons_written_in_parts_are_those_written_at_once(
    format: str, crs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = written(tmp_path, crs, format=format)
    monkeypatch.setattr("pyramidseg.predict.outputs.polygon_layers._AT_ONCE", 3)
    monkeypatch.setattr("pyramidseg.predict.outputs.polygon_layers._PIXELS", 200)
    (tmp_path / "parts").mkdir()
    _, parts = written(tmp_path / "parts", crs, format=format)
    assert len(whole) > 20 and whole.crs == parts.crs
    tables = (table.sort_values(["pixels", "confidence"], ignore_index=True) for table in (whole, parts))
    one, other = (table[["class", "pixels", "area_m2", "confidence", "geometry"]] for table in tables)
    assert one.drop(columns="geometry").equals(other.drop(columns="geometry"))
    assert (one.geometry.to_wkb() == other.geometry.to_wkb()).all()


COARSE = {
    UTM: (20.0, 0.0, 733601.0, 0.0, -20.0, 3725139.0),
    "EPSG:3857": (30.0, 0.0, 1113194.9, 0.0, -30.0, 6446275.0),
    "EPSG:4326": (2e-4, 0.0, 10.0, 0.0, -2e-4, 60.0),
}


@pytest.mark.parametrize("crs", COARSE)
def test_areas_are_those_of_pyproj(crs: str, tmp_path: Path) -> None:
    _, table = written(tmp_path, crs, COARSE[crs], format="geopackage")
    geod = pyproj.Geod(ellps="WGS84")
    expected = [abs(geod.geometry_area_perimeter(shape)[0]) for shape in table.geometry.to_crs(4326)]
    np.testing.assert_allclose(table["area_m2"], expected, rtol=5e-6, atol=0.5)  # pyproj rounds, at each corner


@pytest.mark.parametrize("format", BINARY)
def test_files_without_a_map_say_that_y_is_down(format: str, tmp_path: Path) -> None:
    path, _ = written(tmp_path, "", format=format)
    assert b"y DOWN" in path.read_bytes()
    if format == "geopackage":
        with sqlite3.connect(path) as database:
            ((name, note),) = database.execute("SELECT table_name, description FROM gpkg_contents").fetchall()
            ((kind,),) = database.execute("SELECT geometry_type_name FROM gpkg_geometry_columns").fetchall()
        assert name == "pyramidseg" and "y DOWN" in note and kind == "POLYGON"


@pytest.mark.parametrize("crs", [UTM, ""])
def test_geoparquet_metadata(crs: str, tmp_path: Path) -> None:
    path, table = written(tmp_path, crs, format="geoparquet")
    geo = json.loads(pyarrow.parquet.read_schema(path).metadata[b"geo"])
    column = geo["columns"]["geometry"]
    assert geo["version"] == "1.1.0" and geo["primary_column"] == "geometry"
    assert column["geometry_types"] == ["Polygon"] and column["orientation"] == "counterclockwise"
    assert column["bbox"] == pytest.approx(table.total_bounds.tolist())
    assert (column["crs"] is None) if not crs else column["crs"]["id"] == {"authority": "EPSG", "code": 32616}


@pytest.mark.parametrize("format", POLYGON_FORMATS)
def test_an_image_of_background_is_an_empty_layer(format: str, tmp_path: Path) -> None:
    shape = (4, 5)
    found = Segmentation(np.zeros(shape, np.uint8), Classes.from_names(NAMES), np.ones(shape, np.float32))
    path = tmp_path / f"a{POLYGON_FORMATS[format]}"
    assert write_polygons(path, found, PolygonOptions(format))["polygons"] == 0
    assert len(pyarrow.parquet.read_table(path) if format == "geoparquet" else pyogrio.read_dataframe(path)) == 0


def test_a_call_writes_and_continues(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.tif", labels_of()[..., None].repeat(3, 2) * 127, photometric="RGB")
    for unchanged, format in (
        (0, "geopackage"),
        (1, "geopackage"),
        (0, "flatgeobuf"),
        (0, "geoparquet"),
        (0, "geopackage"),
    ):
        summary = predict_files(Predictor(Brightness()), [tmp_path / "images"], tmp_path / "out", save=("polygons",),
                                polygons=PolygonOptions(format))  # fmt: skip
        assert summary.unchanged == unchanged and not summary.failed
    assert {path.suffix for path in (tmp_path / "out").glob("a*")} == {".png", ".gpkg", ".fgb", ".parquet"}


def test_geopandas_draws_what_convert_writes(tmp_path: Path) -> None:
    """The label files of a converted dataset, holes included, back on the grid of each image."""
    for number in range(3):
        write_image(tmp_path / f"set/train/images/{number}.tif", np.zeros((52, 68, 3), np.uint8))
        write_image(tmp_path / f"set/train/masks/{number}.tif", labels_of(number)[..., None])
    (tmp_path / "set/dataset.yaml").write_text(json.dumps({"classes": list(NAMES)}))
    convert_dataset(tmp_path / "set", to="geojson", out=tmp_path / "out")
    written = sorted((tmp_path / "out" / "labels").rglob("*.geojson"))
    assert len(written) == 3
    for path in written:
        table = geopandas.read_file(path)
        assert table.crs == pyproj.CRS("EPSG:4326") and table.geometry.is_valid.all()
        assert all(shape.exterior.is_ccw for shape in table.geometry)
        np.testing.assert_array_equal(drawn(table.to_crs(UTM), TRANSFORM), labels_of(int(path.stem)))


def test_what_geopandas_writes_is_read_equal(tmp_path: Path) -> None:
    """Polygons of GDAL, in degrees with the decimals that it chooses."""
    for number, split in enumerate(("train", "train", "val")):
        write_image(tmp_path / f"set/{split}/images/{number}.tif", np.zeros((52, 68, 3), np.uint8))
        found = [*shapes(labels_of(number), mask=labels_of(number) > 0, transform=rasterio.Affine(*TRANSFORM))]
        columns = {"class": [NAMES[int(value)] for _, value in found]}
        table = geopandas.GeoDataFrame(columns, geometry=[shapely.geometry.shape(one) for one, _ in found], crs=UTM)
        (tmp_path / f"set/{split}/geojson").mkdir(exist_ok=True)
        table.to_crs(4326).to_file(tmp_path / f"set/{split}/geojson/{number}.geojson", driver="GeoJSON")
    dataset = open_dataset(tmp_path / "set", DataConfig(class_property="class"))
    names = np.array(dataset.classes.names)
    records = [record for records in dataset.splits.values() for record in records]
    assert len(records) == 3 and set(names) == {*NAMES}
    for record in records:
        expected = np.array(NAMES)[labels_of(int(record.image.stem))]
        np.testing.assert_array_equal(names[read_labels(record, dataset.masks)], expected)
