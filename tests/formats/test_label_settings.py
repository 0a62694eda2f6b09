"""Settings of labels: nodata, and classes merged, renamed and dropped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from made_files import color_mask, first_row, has_note, image, opened, pairs, write
from made_geo import write_image
from made_masks import BLUE, RED, WHITE, made
from pyramidseg.base.errors import ConfigError, DataError


class TestNodata:
    """GeoTIFF masks with values that can be no index."""

    def made(self, folder: Path, values: list[float], dtype: type[Any], nodata: float | None) -> Path:
        for name in ("a", "b"):
            image(folder / "images" / f"{name}.jpg")
            rows = np.array([values] * 3, dtype)[..., None]
            write_image(folder / "masks" / f"{name}.tif", rows, nodata=nodata)
        return folder

    @pytest.mark.parametrize(
        ("dtype", "value", "nodata"),
        [(np.int16, -1, -1), (np.float32, -9999, -9999), (np.float32, np.nan, np.nan), (np.float32, np.nan, None)],
    )
    def test_nodata_of_the_file_is_ignored_by_the_setting_and_again(
        self, tmp_path: Path, dtype: type[Any], value: float, nodata: float | None
    ) -> None:
        self.made(tmp_path, [0, 1, value, 2], dtype, nodata)
        with pytest.raises(DataError, match=r"data\.ignore="):
            opened(tmp_path)
        dataset = opened(tmp_path, ignore=["nodata"])
        assert first_row(dataset) == [0, 1, 255, 2]
        assert dataset.classes.names == ("class 0", "class 1", "class 2")
        assert has_note(dataset, "mask values are 0-2,", "(ignored: 255, nodata)")
        again = opened(write(tmp_path / "again.yaml", yaml.safe_dump(dict(dataset.description))))
        assert again.masks == dataset.masks
        assert again.description["ignore"] == ["nodata"]

    def test_negative_numbers_without_a_tag_are_asked_for(self, tmp_path: Path) -> None:
        self.made(tmp_path, [0, 1, -1, -7], np.int16, None)
        with pytest.raises(DataError, match=r"mask values -7, -1 .*data\.ignore=\[-7, -1\]"):
            opened(tmp_path)
        for settings in ({}, {"classes": ["x", "y"]}):
            assert first_row(opened(tmp_path, ignore=[-1, -7], **settings)) == [0, 1, 255, 255]

    def test_nodata_of_binary_masks_is_no_foreground(self, tmp_path: Path) -> None:
        self.made(tmp_path, [0, 255, -9999, 255], np.float32, -9999)
        dataset = opened(tmp_path, binary=True, ignore=[-9999])
        assert first_row(dataset) == [0, 1, 255, 1]

    def test_negative_class_values_are_refused(self, tmp_path: Path) -> None:
        self.made(tmp_path, [0, 1, -1, 1], np.int16, None)
        with pytest.raises(ConfigError, match="greater than or equal to 0"):
            opened(write(tmp_path / "data.yaml", "classes: {a: 0, b: -1}"))


class TestClassMap:
    @pytest.fixture
    def camvid(self, tmp_path: Path) -> Path:
        for split in ("train", "val"):
            pairs(tmp_path / split, tmp_path / f"{split}annot", ["a"], 0, 3, 8, 11)
        return tmp_path

    @pytest.mark.parametrize(
        ("text", "names", "row"),
        [
            (
                "classes: [{name: ground, from: [road, pavement]}, {name: rest, from: [sky, car]}]\nignore: '*'",
                ("ground", "rest"),
                [1, 0, 1, 255],
            ),
            ("classes: [car, sky]\nignore: '*'", ("car", "sky"), [1, 255, 0, 255]),
            ("classes: [sky, {name: street, from: road}]\nignore: [car, void]", ("sky", "street"), [0, 1, 255, 255]),
            ("classes: [sky, road, car, void]\nignore: '*'", ("sky", "road", "car", "void"), [0, 1, 2, 3]),
            ("classes: [{name: all, from: [sky, 3, car]}]\nignore: 11", ("all",), [0, 0, 0, 255]),
            ("classes: {low: 0, high: 8}\nignore: [3, 11]", ("low", "high"), [0, 255, 1, 255]),
        ],
    )
    def test_labels_are_merged_renamed_dropped_and_ordered(
        self, camvid: Path, text: str, names: tuple[str, ...], row: list[int]
    ) -> None:
        dataset = opened(write(camvid / "d.yaml", text))
        assert dataset.classes.names == names
        assert first_row(dataset) == row

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("classes: [sky, raod]", "class 'raod' is not defined by the dataset while others are"),
            ("classes: [sky, raod]", "did you mean 'road'"),
            (
                "classes: [{name: x, from: [sky, rode]}]",
                "'rode' is not a class or value of the masks; did you mean 'road'",
            ),
            ("classes: [sky, {name: x, from: [sky, road]}]", "value 0 is given to more than one class"),
            ("classes: [{name: x, value: 1, from: [2]}]", "class 'x' has both value and from"),
            ("classes: [sky, road]\nignore: road", "mask value 3 is both a class and ignored"),
            (
                "classes: [{name: x, from: '#808080'}]",
                "'#808080' is not a class or value of the masks; the masks contain no colours",
            ),
            (
                "tolerance: 3",
                "tolerance=3: tolerance applies to masks of colours, and these contain none; leave it out",
            ),
            ("inverted: true", "inverted applies to binary masks only: add binary or threshold"),
            ("binary: true\ntolerance: 3", "tolerance applies to colours, and binary masks have none"),
            ("binary: true\nclasses: {a: 0, b: 1}", "got 2 classes with values of their own"),
            ("threshold: 9\nignore: 3", "has no effect with a threshold"),
            ("binary: true\nignore: sky", "binary masks contain numbers"),
        ],
    )
    def test_contradictions_and_settings_without_effect_are_refused(
        self, camvid: Path, text: str, message: str
    ) -> None:
        with pytest.raises(ConfigError) as caught:
            opened(write(camvid / "d.yaml", text))
        assert message in str(caught.value)
        assert str(camvid / "d.yaml") in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_class_of_the_format_that_is_ignored_is_dropped(self, camvid: Path) -> None:
        dataset = opened(camvid, ignore=["car", "sky"])
        assert "car" not in dataset.classes.names
        assert (len(dataset.classes), dataset.classes.names[0]) == (9, "building")
        assert first_row(dataset) == [255, 2, 255, 255]

    def test_names_of_another_dataset_replace_the_formats_with_a_note(self, camvid: Path) -> None:
        dataset = opened(camvid, classes=[f"class {index}" for index in range(12)])
        assert first_row(dataset) == [0, 3, 8, 11]
        assert has_note(dataset, "the classes given replace those of the layout: mask values are their positions")

    def test_colours_are_merged_by_name_and_by_colour(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: color_mask(path, RED, BLUE, WHITE))
        write(tmp_path / "class_dict.csv", "name,r,g,b\ndate,255,0,0\nfig,0,0,255\n")
        text = "classes: [{name: fruit, color: [1, 2, 3], from: [date, fig]}, {name: sky, from: '#ffffff'}]"
        dataset = opened(write(tmp_path / "d.yaml", text))
        assert first_row(dataset)[:3] == [0, 0, 1]
        assert dataset.classes.colors[0] == (1, 2, 3)
