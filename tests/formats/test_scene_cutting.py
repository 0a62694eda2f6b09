"""`data.window`: scenes are cut into windows whose labels are those of the whole scene, each pixel exactly once."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from made_files import all_ids, has_note, image, opened
from made_geo import TRANSFORM, box, feature, on_map, polygon, write_geojson, write_image
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.pairs import read_pair
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.geojson.geojson_masks import GeoJsonMasks
from pyramidseg.formats.scene_cutting import spans
from pyramidseg.images.decode import read_image
from pyramidseg.images.georeference import WGS84, parse_crs, reproject
from pyramidseg.images.scene_windows import SceneWindow, window_at
from pyramidseg.inspection.inspect_dataset import inspect_dataset
from pyramidseg.inspection.training_check import check_dataset

H, W = 150, 210


def scene(path: Path, **options: Any) -> Path:
    values = np.random.default_rng(0).integers(0, 255, (H, W, 3)).astype(np.uint8)
    return write_image(path, values, **{"photometric": "RGB", **options})


def records_of(dataset: Dataset) -> list[Record]:
    return [record for records in dataset.splits.values() for record in records]


def assembled(dataset: Dataset) -> NDArray[np.int64]:
    """The labels of all windows in their places, and 1000 elsewhere."""
    whole = np.full((H, W), 1000)
    for record in records_of(dataset):
        window = window_at(record.image)
        assert window is not None
        part = whole[window.top : window.top + window.height, window.left : window.left + window.width]
        assert (part == 1000).all()
        part[:] = read_pair(record, dataset.masks, channels=3)[1]
    return whole


@given(st.integers(1, 5000), st.integers(32, 600))
@settings(max_examples=50, deadline=None)
def test_windows_cover_a_side_once_and_are_neither_slivers_nor_large(size: int, window: int) -> None:
    found = spans(size, window)
    assert [start for start, _ in found] == [window * number for number in range(len(found))]
    assert sum(length for _, length in found) == size
    assert all(length == window for _, length in found[:-1])
    assert len(found) == 1 or window / 2 <= found[-1][1] < 1.5 * window
    assert found[-1][1] < 1.5 * window


corners = st.tuples(st.floats(-20, W + 20), st.floats(-20, H + 20))
half_corners = st.tuples(st.integers(-9, 2 * W + 9), st.integers(-9, 2 * H + 9)).map(lambda at: (at[0] / 2, at[1] / 2))
rings = st.lists(st.one_of(corners, half_corners), min_size=3, max_size=7)


MANY = GeoJsonMasks(("background", "a", "b", "c"), {"a": 1, "b": 2, "c": 3}, "kind")


@given(st.lists(rings, min_size=1, max_size=8), st.sampled_from([TRANSFORM, (0.3, 0.1, 7e5, 0.1, -0.3, 37e5)]))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_labels_of_windows_are_those_of_the_whole_scene(
    tmp_path: Path, outlines: Any, transform: tuple[float, ...]
) -> None:
    """Overlapping polygons of several classes, and corners on centres of pixels."""
    file = tmp_path / f"{transform[0]}.tif"
    if not file.exists():
        scene(file, transform=transform)
    shapes = [
        feature(polygon(on_map([*ring, ring[0]], transform)), kind="abc"[number % 3])
        for number, ring in enumerate(outlines)
    ]
    vectors = write_geojson(tmp_path / "a.geojson", shapes)
    whole = MANY.read(Record("a", file, vectors))
    for (top, height), (left, width) in product(spans(H, 64), spans(W, 64)):
        part = MANY.read(Record("", SceneWindow(file, top, left, height, width).path, vectors))
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


def test_the_smaller_polygon_is_on_top_by_its_size_in_the_scene(tmp_path: Path) -> None:
    """In the window, little of the larger one is seen."""
    file = scene(tmp_path / "a.tif")
    large = feature(polygon(on_map(box(60, 0, 200, 140))), kind="a")
    small = feature(polygon(on_map(box(0, 0, 66, 60))), kind="b")
    vectors = write_geojson(tmp_path / "a.geojson", [small, large])
    labels = MANY.read(Record("", SceneWindow(file, 0, 0, 64, 64).path, vectors))
    assert (labels[:60] == 2).all() and (labels[60:, 60:] == 1).all()


def test_a_scene_with_polygons_in_degrees_is_a_dataset(tmp_path: Path) -> None:
    file = scene(tmp_path / "field.tif", nodata=255)
    ring = reproject(np.array(on_map(box(20, 30, 100, 90))), source=parse_crs("EPSG:32616"), target=parse_crs(WGS84))
    write_geojson(tmp_path / "field.geojson", [feature(polygon(ring.tolist()))], crs=None)  # type: ignore[arg-type]
    dataset = opened(tmp_path, window=64, window_gap=0)
    expected = np.zeros((H, W))
    expected[30:90, 20:100] = 1
    np.testing.assert_array_equal(assembled(dataset), expected)
    assert sorted(all_ids(dataset)) == [f"field#y{top}x{left}" for top in (0, 64) for left in (0, 128, 64)]
    assert has_note(dataset, "1 of 1 images are cut into 6 windows")
    assert file.exists()


def test_pixels_without_data_are_ignored(tmp_path: Path) -> None:
    values = np.full((H, W, 3), 9, np.uint8)
    values[:40] = 0
    write_image(tmp_path / "a.tif", values, photometric="RGB", nodata=0)
    write_geojson(tmp_path / "a.geojson", [feature(polygon(on_map(box(0, 20, 50, 60))))])
    labels = assembled(opened(tmp_path, window=64, window_gap=0))
    assert (labels[:40] == 255).all() and labels[40:60, :50].all() and not labels[60:].any()


def test_windows_without_data_are_counted_and_no_defects(tmp_path: Path) -> None:
    values = np.full((H, W, 3), 9, np.uint8)
    values[:70, :70] = 0
    write_image(tmp_path / "a.tif", values, photometric="RGB", nodata=0)
    write_geojson(tmp_path / "a.geojson", [feature(polygon(on_map(box(70, 70, 180, 140))))])
    inspected = inspect_dataset(tmp_path, data=DataConfig(window=64, window_gap=0))
    assert DefectKind.ALL_IGNORED not in {defect.kind for defect in inspected.defects}
    window = tmp_path / "a#y0x0h64w64.tif"
    assert f"all pixels of 1 windows are ignored, for example of {window}" in inspected.remarks


def test_a_truncated_scene_says_what_the_decoder_says(tmp_path: Path) -> None:
    file = scene(tmp_path / "a.tif")
    file.write_bytes(file.read_bytes()[: H * W * 3 // 2])
    with pytest.raises(DataError, match=r"h64w64\.tif: cannot be read as an image: .*; replace or remove") as caught:
        read_image(SceneWindow(file, 86, 64, 64, 64).path, channels=3)
    assert "previous exception" not in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"tiled": True, "blockxsize": 64, "blockysize": 64}], ids=["strips", "tiles"])
def test_a_truncated_scene_is_found_before_training(tmp_path: Path, options: dict[str, Any]) -> None:
    file = scene(tmp_path / "a.tif", **options)
    write_geojson(tmp_path / "a.geojson", [])
    content = file.read_bytes()
    file.write_bytes(content[: len(content) * 9 // 10])
    with pytest.raises(DataError, match=r"a\.tif: "):
        opened(tmp_path, window=64)


def test_polygons_beside_all_images_are_named_as_the_likely_reason(tmp_path: Path) -> None:
    scene(tmp_path / "a.tif")
    write_geojson(tmp_path / "a.geojson", [feature(polygon(on_map(box(900, 0, 990, 90))))])
    with pytest.raises(DataError, match=r"or polygons be elsewhere on the map than the images \(data\.vector_crs\)"):
        check_dataset(opened(tmp_path, window=64, window_gap=0))


def test_pairs_of_a_scene_and_an_index_mask_are_cut_alike(tmp_path: Path) -> None:
    indices = np.random.default_rng(1).integers(0, 4, (H, W, 1)).astype(np.uint8)
    for split in ("train", "val"):
        scene(tmp_path / "images" / split / "a.tif")
        write_image(tmp_path / "masks" / split / "a.tif", indices, tiled=True, blockxsize=64, blockysize=64)
    dataset = opened(tmp_path, window=64)
    assert {split: len(records) for split, records in dataset.splits.items()} == {"train": 6, "val": 6}  # these hold
    for split in ("train", "val"):
        part = Dataset("", "", dataset.classes, dataset.masks, {split: dataset.splits[split]})
        np.testing.assert_array_equal(assembled(part), indices[..., 0])


def test_the_dataset_of_a_run_opens_the_same_windows(tmp_path: Path) -> None:
    scene(tmp_path / "a.tif")
    write_geojson(tmp_path / "a.geojson", [feature(polygon(on_map(box(0, 0, 90, 90))))])
    dataset = opened(tmp_path, window=32, window_gap=10, val_share=0.3)
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(dict(dataset.description)))
    assert opened(file).splits == dataset.splits


def test_images_that_fit_into_a_window_stay_files(tmp_path: Path) -> None:
    scene(tmp_path / "a.tif")
    write_geojson(tmp_path / "a.geojson", [])
    beside = (0.5, 0.0, 733601.0, 0.0, -0.5, 3725400.0)
    write_image(tmp_path / "small.tif", np.ones((70, 90, 3), np.uint8), photometric="RGB", transform=beside)
    write_geojson(tmp_path / "small.geojson", [feature(polygon(on_map(box(0, 0, 9, 9), beside)))])
    dataset = opened(tmp_path, window=64, window_gap=0)
    assert "small" in all_ids(dataset) and len(all_ids(dataset)) == 7
    assert has_note(dataset, "1 of 2 images are cut into 6 windows")


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (lambda folder: write_image(folder / "a.tif", np.zeros((H - 1, W, 1), np.uint8)), "149 x 210 pixels"),
        (
            lambda folder: write_image(folder / "a.tif", np.zeros((H, W, 3), np.uint8), compress="jpeg"),
            "in JPEG, which",
        ),
        (lambda folder: image(folder / "a.png", height=H, width=W), "only TIFF files are read in windows"),
    ],
)
def test_masks_that_cannot_be_cut_are_defects(tmp_path: Path, mask: Any, reason: str) -> None:
    scene(tmp_path / "images" / "a.tif")
    (tmp_path / "masks").mkdir()
    mask(tmp_path / "masks")
    with pytest.raises(DataError, match=reason):
        opened(tmp_path, window=64)


def test_large_images_of_other_kinds_are_defects(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png", height=H, width=W)
    image(tmp_path / "masks" / "a.png", height=H, width=W)
    with pytest.raises(DataError, match=r"images/a\.png: is larger than data\.window.*gdal_translate"):
        opened(tmp_path, window=64)


def test_labels_of_other_formats_are_refused_with_the_way_out(tmp_path: Path) -> None:
    scene(tmp_path / "images" / "a.tif")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    with pytest.raises(DataError, match=r"a\.tif: has labels of a kind that is not cut;.*convert --to masks"):
        opened(tmp_path, window=64)


def test_a_gap_without_windows_is_refused(tmp_path: Path) -> None:
    scene(tmp_path / "a.tif")
    write_geojson(tmp_path / "a.geojson", [])
    with pytest.raises(ConfigError, match=r"window_gap=5: needs data\.window"):
        opened(tmp_path, window_gap=5)
