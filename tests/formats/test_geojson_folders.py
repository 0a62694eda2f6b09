"""Georeferenced images with GeoJSON: every layout that is recognised, every way to name classes, nobody else's data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from made_geo import TRANSFORM, box, feature, on_map, polygon, write_geojson, write_image
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_dataset, open_with_defects
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError
from pyramidseg.images.georeference import read_georeference
from pyramidseg.inspection.training_check import check_dataset

SIDE = 16


def tile(folder: Path, name: str, column: int) -> Path:
    """One of several images from west to east."""
    transform = (0.5, 0.0, TRANSFORM[2] + 0.5 * SIDE * column, 0.0, -0.5, TRANSFORM[5])
    return write_image(folder / f"{name}.tif", np.full((SIDE, SIDE, 2), column, np.uint16), transform=transform)


def roof(column: int, side: int = 4, **properties: Any) -> dict[str, Any]:
    left = SIDE * column + 2
    return feature(polygon(on_map(box(left, 2, left + side, 2 + side))), **properties)


def write_tiles(images: Path, vectors: Path, *, count: int = 4, first: str = "", second: str = "") -> None:
    for column in range(count):
        tile(images, f"{first}{column}_7", column)
        write_geojson(vectors / f"{second}{column}_7.geojson", [roof(column)] if column else [])


def describe(folder: Path, **content: Any) -> Path:
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder / "data.yaml"


def pixels(dataset: Dataset) -> dict[str, int]:
    """Pixels by class name over all splits."""
    total = np.zeros(256, np.int64)
    for records in dataset.splits.values():
        for record in records:
            total += np.bincount(dataset.masks.read(record).ravel(), minlength=256)
    return dict(zip(dataset.classes.names, total[: len(dataset.classes)].tolist(), strict=True))


@pytest.mark.parametrize("vectors", ["labels", "geojson", "vectors", "masks", "footprints"])
def test_a_file_for_each_image_by_its_name(tmp_path: Path, vectors: str) -> None:
    write_tiles(tmp_path / "images", tmp_path / vectors)
    dataset = open_dataset(tmp_path, DataConfig())
    assert dataset.layout == "images and GeoJSON"
    assert pixels(dataset) == {"background": 4 * SIDE * SIDE - 48, "foreground": 48}
    assert sorted(record.id for some in dataset.splits.values() for record in some) == ["0_7", "1_7", "2_7", "3_7"]


@pytest.mark.parametrize("above", [True, False])
def test_folders_of_splits_above_or_below(tmp_path: Path, above: bool) -> None:
    for split, count in (("train", 4), ("val", 2)):
        place = tmp_path / split if above else tmp_path
        below = "" if above else split
        write_tiles(place / "images" / below, place / "labels" / below, count=count)
    dataset = open_dataset(tmp_path, DataConfig())
    assert {name: len(records) for name, records in dataset.splits.items()} == {"train": 4, "val": 2}
    assert pixels(dataset)["foreground"] == 48 + 16


@pytest.mark.parametrize(("image", "vector"), [("{}", "{}"), ("RGB_img{}", "buildings_img{}")])
def test_the_last_of_several_files_is_not_that_of_all_images(tmp_path: Path, image: str, vector: str) -> None:
    for column in range(3):
        tile(tmp_path / "images", image.format(column), column)
    (tmp_path / "labels").mkdir()
    write_geojson(tmp_path / "labels" / f"{vector.format(1)}.geojson", [roof(1)])
    _, found = open_with_defects(tmp_path, DataConfig())
    missing = [defect.file.stem for defect in found if defect.kind is DefectKind.MISSING_MASK]
    assert missing == [image.format(0), image.format(2)]


@pytest.mark.parametrize("name", ["all.geojson", "houses_of_town.geojson"])
def test_one_file_of_another_name_in_a_folder_is_for_all_images(tmp_path: Path, name: str) -> None:
    for column in range(3):
        tile(tmp_path / "images", str(column), column)
    (tmp_path / "labels").mkdir()
    write_geojson(tmp_path / "labels" / name, [roof(0), roof(2, side=5)])
    assert pixels(open_dataset(tmp_path, DataConfig()))["foreground"] == 16 + 25


def test_one_file_for_all_images(tmp_path: Path) -> None:
    for column in range(3):
        tile(tmp_path / "images", str(column), column)
    write_geojson(tmp_path / "houses.geojson", [roof(0), roof(2, side=5)])
    dataset = open_dataset(tmp_path, DataConfig())
    assert any("holds the polygons of all 3 images" in note for note in dataset.notes)
    assert pixels(dataset)["foreground"] == 16 + 25


def test_images_and_files_next_to_each_other(tmp_path: Path) -> None:
    write_tiles(tmp_path, tmp_path)
    assert pixels(open_dataset(tmp_path, DataConfig()))["foreground"] == 48


@pytest.mark.parametrize(
    ("images", "vectors", "first", "second"),
    [
        ("RGB-PanSharpen", "geojson/buildings", "RGB-PanSharpen_AOI_2_Vegas_img", "buildings_AOI_2_Vegas_img"),
        ("rastertile_test", "vectortile_test", "sample_geotiff_73360", "geoms_73360"),
        ("images", "labels", "tile_", "tile_buildings_"),
    ],
)
def test_names_with_different_prefixes_are_paired_by_the_rest(
    tmp_path: Path, images: str, vectors: str, first: str, second: str
) -> None:
    write_tiles(tmp_path / images, tmp_path / vectors, first=first, second=second)
    dataset = open_dataset(tmp_path, DataConfig())
    assert any("by what follows" in note for note in dataset.notes)
    assert pixels(dataset)["foreground"] == 48
    for record in dataset.split("train"):
        assert record.mask is not None
        assert record.image.stem.removeprefix(first) == record.mask.stem.removeprefix(second)


def test_solaris_writes_the_same_number_in_two_ways(tmp_path: Path) -> None:
    for column in range(2):
        tile(tmp_path / "images", f"a_-{column}_8", column)
        write_geojson(tmp_path / "labels" / f"geoms_-{column}.0_8.0.geojson", [roof(column)])
    assert pixels(open_dataset(tmp_path, DataConfig()))["foreground"] == 32


def test_an_image_without_a_file_is_a_defect(tmp_path: Path) -> None:
    write_tiles(tmp_path / "images", tmp_path / "labels")
    (tmp_path / "labels" / "2_7.geojson").unlink()
    with pytest.raises(DataError, match=r"images/2_7\.tif"):
        open_dataset(tmp_path, DataConfig())


def test_several_folders_of_images_are_refused_with_yaml_to_paste(tmp_path: Path) -> None:
    write_tiles(tmp_path / "PAN", tmp_path / "geojson")
    write_tiles(tmp_path / "MUL", tmp_path / "geojson")
    with pytest.raises(AmbiguousDatasetError, match="several ways; to settle it") as caught:
        open_dataset(tmp_path, DataConfig())
    assert "# train: {images: PAN, masks: geojson}" in caught.value.suggestion
    (tmp_path / "dataset.yaml").write_text(caught.value.suggestion)
    dataset = open_dataset(tmp_path, DataConfig())
    assert {record.image.parent.name for record in dataset.split("train")} == {"MUL"}
    assert pixels(dataset)["foreground"] == 48


@pytest.mark.parametrize("suffix", [".geojson", ".json"])
def test_a_yaml_file_names_a_folder_or_a_file(tmp_path: Path, suffix: str) -> None:
    write_tiles(tmp_path / "a", tmp_path / "b")
    (tmp_path / "b" / "1_7.geojson").rename(tmp_path / f"one{suffix}")
    for masks, counted in ((f"one{suffix}", 16), ("b", None)):
        file = describe(tmp_path, train={"images": "a", "masks": masks}, val_share=0.3)
        if counted is None:
            with pytest.raises(DataError, match=r"a/1_7\.tif"):
                open_dataset(file, DataConfig())
        else:
            assert pixels(open_dataset(file, DataConfig()))["foreground"] == counted


def test_splits_of_two_kinds_are_refused(tmp_path: Path) -> None:
    write_tiles(tmp_path / "a", tmp_path / "b")
    for column in range(4):
        (tmp_path / "c").mkdir(exist_ok=True)
        Image.new("L", (SIDE, SIDE)).save(tmp_path / "c" / f"{column}_7.png")
    vectors, rasters = {"images": "a", "masks": "b"}, {"images": "a", "masks": "c"}
    for train, val in ((vectors, rasters), (rasters, vectors)):
        with pytest.raises(DataError, match=r"data\.yaml: val\.masks: .*one kind"):
            open_dataset(describe(tmp_path, train=train, val=val), DataConfig())


class TestClasses:
    @pytest.fixture
    def roofs(self, tmp_path: Path) -> Path:
        for column in range(3):
            tile(tmp_path / "images", str(column), column)
        kinds = [roof(0, 4, roof="tin", id=1), roof(1, 5, roof="tile", id=2), roof(2, 6, roof=None, id=3)]
        write_geojson(tmp_path / "roofs.geojson", kinds)
        return tmp_path

    def test_two_names_are_those_of_background_and_polygons(self, roofs: Path) -> None:
        for names in (("background", "house"), ("house", "background"), ("open land", "house")):
            dataset = open_dataset(roofs, DataConfig(classes=names))
            assert dataset.classes.names == names
            assert pixels(dataset)["house"] == 16 + 25 + 36

    def test_a_property_divides_polygons_into_classes_and_those_without_it_are_ignored_with_a_note(
        self, roofs: Path
    ) -> None:
        dataset = open_dataset(roofs, DataConfig(class_property="roof"))
        assert pixels(dataset) == {"background": 3 * SIDE * SIDE - 77, "tile": 25, "tin": 16}
        assert "polygons are divided into classes by their property 'roof': tile 1, tin 1" in dataset.notes
        assert any(
            note.startswith("1 polygons do not have it: they are labelled 'none' and ignored") for note in dataset.notes
        )

    def test_classes_may_be_ordered_merged_and_dropped_by_these_names(self, roofs: Path) -> None:
        content = {
            "train": {"images": "images", "masks": "roofs.geojson"},
            "class_property": "roof",
            "classes": [{"name": "hard", "from": ["tin", "none"]}, "background"],
            "ignore": ["tile"],
        }
        dataset = open_dataset(describe(roofs, **content), DataConfig())
        assert pixels(dataset) == {"hard": 16 + 36, "background": 3 * SIDE * SIDE - 77}

    def test_a_property_that_no_polygon_has_is_refused_with_the_nearest(self, roofs: Path) -> None:
        with pytest.raises(ConfigError, match="class_property=rof: no polygon has this property; did you mean 'roof'"):
            open_dataset(roofs, DataConfig(class_property="rof"))

    def test_a_dataset_is_opened_again_as_it_was(self, roofs: Path) -> None:
        first = open_dataset(roofs, DataConfig(class_property="roof", vector_crs="image", bands=(2,)))
        (roofs / "again.yaml").write_text(yaml.safe_dump(dict(first.description)))
        again = open_dataset(roofs / "again.yaml", DataConfig())
        assert again.classes == first.classes
        assert again.splits == first.splits
        assert again.bands == (2,)
        assert pixels(again) == pixels(first)

    @pytest.mark.parametrize(
        "setting", [{"class_property": "roof"}, {"vector_crs": "image"}, {"annotator": "1"}, {"mask_column": "label"}]
    )
    def test_settings_of_other_formats_are_refused(self, tmp_path: Path, setting: dict[str, str]) -> None:
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir()
            for name in "ab":
                Image.new("L", (SIDE, SIDE)).save(tmp_path / folder / f"{name}.png")
        with pytest.raises(ConfigError, match=r"this setting is for [\w ]+, which these masks are not; remove it"):
            open_dataset(tmp_path, DataConfig(**setting))


def test_geotiff_masks_belong_to_the_paired_layout(tmp_path: Path) -> None:
    for column in range(3):
        place = read_georeference(tile(tmp_path / "images", str(column), column))
        assert place is not None
        labels = np.full((SIDE, SIDE, 1), column % 2, np.uint8)
        write_image(tmp_path / "masks" / f"{column}.tif", labels, transform=place.transform)
    dataset = open_dataset(tmp_path, DataConfig(bands=(1,)))
    assert dataset.layout == "paired folders (images, masks)"
    assert dataset.bands == (1,)
    assert check_dataset(dataset, channels=dataset.bands).splits["train"].dtypes == ("uint16",)


def test_a_defect_names_file_and_feature(tmp_path: Path) -> None:
    write_tiles(tmp_path / "images", tmp_path / "labels")
    line = {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}
    write_geojson(tmp_path / "labels" / "1_7.geojson", [roof(1), feature(line)])
    with pytest.raises(DataError, match=r"labels/1_7\.geojson: feature 1: is a LineString, which has no area"):
        check_dataset(open_dataset(tmp_path, DataConfig()), channels=2)


def test_geojson_without_images_is_a_near_miss(tmp_path: Path) -> None:
    write_geojson(tmp_path / "vectors" / "a.geojson", [roof(0)])
    with pytest.raises(DataError, match="holds GeoJSON files, but no images next to them"):
        open_dataset(tmp_path, DataConfig())
