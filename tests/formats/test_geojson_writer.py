"""GeoJSON as it is written: RFC 7946, and read back every pixel has its class, in any coordinate system."""

import importlib.util
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from made_geo import TRANSFORM, UTM, write_image, write_turned
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError, MissingExtra
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.images.georeference import WGS84, Georeference, parse_crs, reproject
from pyramidseg.images.open_image import apply_orientation
from pyramidseg.inspection.inspect_dataset import inspect_dataset

NAMES = ("background", "Straße, wet", "tree", "car")
H, W = 40, 50

PLACES = {
    "utm": (UTM, TRANSFORM),
    "degrees": ("EPSG:4326", (2e-6, 0.0, -84.48, 0.0, -2e-6, 33.64)),
    "web_mercator": ("EPSG:3857", (0.3, 0.0, -9404000.0, 0.0, -0.3, 3980000.0)),
    "rotated": (UTM, (0.4, 0.3, 733601.0, 0.3, -0.4, 3725139.0)),
    "south_up": (UTM, (0.5, 0.0, 733601.0, 0.0, 0.5, 3725139.0)),
    "polar": ("EPSG:3031", (25.0, 0.0, -1500000.0, 0.0, -25.0, 900000.0)),
}


def labels_of(seed: int) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 4, (H // 4 + 1, W // 4 + 1), np.uint8).repeat(4, 0).repeat(4, 1)[:H, :W]
    return np.where(generator.random((H, W)) < 0.1, 255, labels).astype(np.uint8)


def write_source(folder: Path, crs: str | None, transform: tuple[float, ...], names: tuple[str, ...] = NAMES) -> Path:
    for seed, split in enumerate(("train", "val")):
        write_image(folder / split / "images" / f"{split}.tif", np.zeros((H, W, 3), np.uint8), crs=crs,
                    transform=transform)  # fmt: skip
        (folder / split / "masks").mkdir()
        Image.fromarray(labels_of(seed)).save(folder / split / "masks" / f"{split}.png")
    description = {"classes": list(names), "ignore": [255]}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(description, allow_unicode=True), encoding="utf-8")
    return folder


def turn(source: Path, orientation: int) -> None:
    """Write the images and masks again, turned by EXIF; the place is that of the rows and columns of the file."""
    for seed, split in enumerate(("train", "val")):
        values = np.random.default_rng(seed).integers(0, 256, (H, W, 3), np.uint8)
        write_turned(source / split / "images" / f"{split}.tif", values, orientation)
        shown = apply_orientation(labels_of(seed), orientation)
        Image.fromarray(shown).save(source / split / "masks" / f"{split}.png")


def features(out: Path) -> list[dict[str, Any]]:
    content = json.loads((out / "labels" / "val" / "val.geojson").read_text(encoding="utf-8"))
    assert content["type"] == "FeatureCollection" and "crs" not in content
    return list(content["features"])


def doubled_area(ring: list[list[float]]) -> float:
    x, y = (np.array(ring) - ring[0]).T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum())


@pytest.mark.parametrize("place", PLACES)
def test_every_pixel_is_read_back(place: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", *PLACES[place])
    conversion = convert_dataset(source, to="geojson", out=tmp_path / "out")
    assert conversion.lost == {}
    dataset = open_dataset(tmp_path / "out", DataConfig())
    assert dataset.classes.names == NAMES
    for seed, split in enumerate(("train", "val")):
        (record,) = dataset.splits[split]
        np.testing.assert_array_equal(read_labels(record, dataset.masks), labels_of(seed))


@pytest.mark.parametrize("place", PLACES)
def test_rings_are_those_of_rfc_7946(place: str, tmp_path: Path) -> None:
    convert_dataset(write_source(tmp_path / "source", *PLACES[place]), to="geojson", out=tmp_path / "out")
    assert {feature["properties"]["class"] for feature in features(tmp_path / "out")} == {*NAMES[1:], None}
    for feature in features(tmp_path / "out"):
        outer, *holes = feature["geometry"]["coordinates"]
        assert doubled_area(outer) > 0 and all(doubled_area(hole) < 0 for hole in holes)
        assert outer[0] == outer[-1] and all(-180 <= lon <= 180 and -90 <= lat <= 90 for lon, lat in outer)


def test_neighbours_have_the_same_corners_in_degrees(tmp_path: Path) -> None:
    """Otherwise straight borders with a corner on one side only would leave slivers in another coordinate system."""
    source = write_source(tmp_path / "source", UTM, TRANSFORM, ("sky", *NAMES[1:]))
    convert_dataset(source, to="geojson", out=tmp_path / "out")
    rings = [ring for feature in features(tmp_path / "out") for ring in feature["geometry"]["coordinates"]]
    edges = {(*tail, *head) for ring in rings for tail, head in itertools.pairwise(ring)}
    alone = [edge for edge in edges if (*edge[2:], *edge[:2]) not in edges]
    middles = np.array(alone).reshape(-1, 2, 2).mean(1)
    on_image = Georeference("", TRANSFORM).to_pixels(reproject(middles, source=parse_crs(WGS84), target=parse_crs(UTM)))
    off_frame = np.minimum(np.abs(on_image), np.abs(on_image - (W, H))).min(1)
    assert len(alone) > 20 and off_frame.max() < 0.01


def test_simplification_says_how_many_pixels_it_moved(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", UTM, TRANSFORM)
    lost = convert_dataset(source, to="geojson", out=tmp_path / "out", simplify_px=1.5).lost
    dataset = open_dataset(tmp_path / "out", DataConfig())
    moved = 0
    for seed, split in enumerate(("train", "val")):
        (record,) = dataset.splits[split]
        moved += int((read_labels(record, dataset.masks) != labels_of(seed)).sum())
    (stated,) = lost.values()
    assert moved > 200 and 0.75 < stated / moved < 1.25, "new edges run through centres, on either side of them"


@pytest.mark.parametrize("to", ["yolo", "labelme", "coco-polygons", "label-studio-polygons"])
def test_other_outlines_are_simplified_too(to: str, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", UTM, TRANSFORM)
    lost = convert_dataset(source, to=to, out=tmp_path / "out", simplify_px=1.5).lost
    dataset = open_dataset(tmp_path / "out", DataConfig())
    moved = 0
    for seed, split in enumerate(("train", "val")):
        (record,) = dataset.splits[split]
        names = np.array([*dataset.classes.names, *[""] * 255])[read_labels(record, dataset.masks)]
        moved += int((names != np.array([*NAMES, *[""] * 251, "background"])[labels_of(seed)]).sum())
    assert lost["pixels that the simplification of outlines moved"] == moved > 0


def test_formats_without_outlines_refuse_it(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", UTM, TRANSFORM)
    with pytest.raises(
        ConfigError, match=r"`simplify_px=1`: coco has no outlines; leave it out, or write coco-polygons, yolo"
    ):
        convert_dataset(source, to="coco", out=tmp_path / "out", simplify_px=1)


@pytest.mark.parametrize("crs", [None])
def test_images_without_a_place_are_refused(crs: None, tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", crs, TRANSFORM)
    with pytest.raises(DataError, match=r"\.tif: has no place on the map in its own tags.*such as labelme or coco"):
        convert_dataset(source, to="geojson", out=tmp_path / "out")


def test_polygons_across_the_180th_meridian_are_cut_and_read_back(tmp_path: Path) -> None:
    """`tests/clients/polygon_layers` looks at the parts."""
    source = write_source(tmp_path / "source", "EPSG:32701", (50.0, 0.0, 179000.0, 0.0, -50.0, 8150000.0))
    if importlib.util.find_spec("shapely") is None:
        with pytest.raises(
            MissingExtra, match=r"cutting polygons at the 180th meridian needs shapely.*pyramidseg\[geo\]"
        ):
            convert_dataset(source, to="geojson", out=tmp_path / "out")
        return
    convert_dataset(source, to="geojson", out=tmp_path / "out")
    assert "MultiPolygon" in {one["geometry"]["type"] for one in features(tmp_path / "out")}
    dataset = open_dataset(tmp_path / "out", DataConfig())
    (record,) = dataset.splits["val"]
    np.testing.assert_array_equal(read_labels(record, dataset.masks), labels_of(1))


def test_classes_that_do_not_occur_are_left_out(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", UTM, TRANSFORM, (*NAMES, "boat"))
    convert_dataset(source, to="geojson", out=tmp_path / "out")
    assert open_dataset(tmp_path / "out", DataConfig()).classes.names == NAMES


def test_an_inspection_of_it_finds_nothing(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source", UTM, TRANSFORM)
    before = [str(defect) for defect in inspect_dataset(source).defects]  # images of one value
    convert_dataset(source, to="geojson", out=tmp_path / "out")
    assert len(inspect_dataset(tmp_path / "out").defects) == len(before)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_confidence_is_the_mean_of_the_pixels_of_a_polygon(orientation: int, tmp_path: Path) -> None:
    turn(source := write_source(tmp_path / "source", UTM, TRANSFORM), orientation)
    shown = np.random.default_rng(0).integers(0, 256, apply_orientation(labels_of(1), orientation).shape, np.uint8)
    Image.fromarray(shown).save(tmp_path / "confidence.png")
    convert_dataset(source, to="geojson", out=tmp_path / "out", confidence=lambda record: tmp_path / "confidence.png")
    found = features(tmp_path / "out")
    pixels, total = 0, 0.0
    for one in found:
        area = sum(map(doubled_area, one["geometry"]["coordinates"]))
        assert 0 <= one["properties"]["confidence"] <= 1
        pixels, total = pixels + area, total + area * one["properties"]["confidence"]
    covered = apply_orientation(labels_of(1), orientation) > 0
    assert total / pixels == pytest.approx(shown[covered].mean() / 255, abs=2e-4)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_polygons_are_where_the_file_has_its_pixels_however_it_is_turned(orientation: int, tmp_path: Path) -> None:
    """Labels are as images are shown; the place on the map is that of the rows and columns of the file."""
    source = write_source(tmp_path / "source", UTM, TRANSFORM)
    turn(source, orientation)
    straight = write_source(tmp_path / "straight", UTM, TRANSFORM)
    for folder in (source, straight):
        convert_dataset(folder, to="geojson", out=tmp_path / f"{folder.name}_out")
    assert features(tmp_path / "source_out") == features(tmp_path / "straight_out")
    dataset = open_dataset(tmp_path / "source_out", DataConfig())
    for seed, split in enumerate(("train", "val")):
        (record,) = dataset.splits[split]
        expected = apply_orientation(labels_of(seed), orientation)
        np.testing.assert_array_equal(read_labels(record, dataset.masks), expected)
    assert [str(defect) for defect in inspect_dataset(tmp_path / "source_out").defects] == []
