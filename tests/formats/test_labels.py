"""Every encoding of labels, and every way to map them to classes, from files to class ids."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from made_files import color_mask, first_row, has_note, image, labels, mask, opened, palette_mask, write
from made_masks import BLACK, BLUE, RED, WHITE, made, middle_is, square
from pyramidseg.base.classes import Classes
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError


class TestBinary:
    def test_0_and_255(self, tmp_path: Path) -> None:
        dataset = opened(made(tmp_path, lambda path: mask(path, 0, 255)), binary=True)
        assert first_row(dataset) == [0, 1, 0, 1]
        assert dataset.classes.names == ("background", "foreground")
        assert has_note(dataset, "binary masks: 0 and 255 are background and foreground")

    def test_0_and_255_saved_as_rgb(self, tmp_path: Path) -> None:
        assert first_row(opened(made(tmp_path, lambda path: color_mask(path, BLACK, WHITE)), binary=True)) == [
            0,
            1,
            0,
            1,
        ]

    @pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
    def test_one_bit(self, tmp_path: Path, suffix: str) -> None:
        def write_bits(path: Path) -> None:
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(np.array([[False, True, False, True]] * 3)).save(path)

        made(tmp_path, write_bits, suffix=suffix)
        assert first_row(opened(tmp_path)) == [0, 1, 0, 1]
        dataset = opened(tmp_path, binary=True, inverted=True)
        assert first_row(dataset) == [1, 0, 1, 0]
        assert has_note(dataset, "are foreground and background")

    def test_mask_of_0_and_1_does_not_hide_255_in_others(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: mask(path, 0, 255))
        mask(tmp_path / "masks" / "a.png", 0, 1)
        dataset = opened(tmp_path, binary=True)
        with pytest.raises(DataError, match=r"mask value 255 \(6 pixels\) is not a known class"):
            [dataset.masks.read(record) for records in dataset.splits.values() for record in records]

    def test_inverted(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: mask(path, 0, 255))
        assert first_row(opened(tmp_path, binary=True, inverted=True)) == [1, 0, 1, 0]

    def test_names_of_two_classes(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: mask(path, 0, 255))
        assert opened(tmp_path, binary=True, classes=["road", "crack"]).classes.names == ("road", "crack")

    def test_list_of_two_classes_in_the_folder_gives_the_names(self, tmp_path: Path) -> None:
        write(made(tmp_path, lambda path: mask(path, 0, 255)) / "classes.txt", "road\ncrack\n")
        assert opened(tmp_path, binary=True).classes.names == ("road", "crack")

    def test_stray_values_are_ignored_where_they_are_listed(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: mask(path, 0, 3, 4, 255))
        assert first_row(opened(tmp_path, binary=True, ignore=[3, 4])) == [0, 255, 255, 1]
        assert first_row(opened(tmp_path, binary=True, ignore="*")) == [0, 255, 255, 1]

    @pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("jpg", {"quality": 60})])
    @pytest.mark.parametrize("inverted", [False, True])
    def test_threshold_divides_grey_levels(
        self, tmp_path: Path, suffix: str, options: dict[str, int], inverted: bool
    ) -> None:
        dataset = opened(square(tmp_path, suffix=suffix, **options), threshold=128, inverted=inverted)
        assert middle_is(dataset.masks.read(dataset.split("train")[0]), not inverted, inverted)
        assert has_note(dataset, "values below and from 128 on")

    def test_jpeg_without_a_threshold_is_refused_with_the_way_out(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"a JPEG file cannot be an exact mask.*\(data\.threshold=128"):
            opened(square(tmp_path, suffix="jpg"))


class TestColours:
    def test_exact_colours_of_a_class_list(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: color_mask(path, RED, BLUE, BLACK))
        text = f"classes: [{{name: x, color: {list(BLUE)}}}, {{name: y, color: {list(RED)}}}]\nignore: '#000000'"
        dataset = opened(write(tmp_path / "d.yaml", text))
        assert first_row(dataset)[:3] == [1, 0, 255]
        assert has_note(dataset, "the masks contain colours", "compared exactly")

    def test_colours_off_by_the_tolerance_count(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: color_mask(path, (250, 4, 0), (0, 0, 255)))
        text = f"classes: [{{name: x, color: {list(RED)}}}, {{name: y, color: {list(BLUE)}}}]\n"
        with pytest.raises(DataError, match="mask value #fa0400"):
            first_row(opened(write(tmp_path / "d.yaml", text)))
        dataset = opened(write(tmp_path / "d.yaml", text + "tolerance: 5"))
        assert first_row(dataset)[:2] == [0, 1]
        assert has_note(dataset, "compared to 5 in each channel")

    def test_jpeg_colours_need_a_tolerance(self, tmp_path: Path) -> None:
        square(tmp_path, suffix="jpg", low=(0, 0, 0), high=(200, 40, 40), quality=95, subsampling=0)
        file = write(tmp_path / "d.yaml", "classes: [{name: a, color: [0, 0, 0]}, {name: b, color: [200, 40, 40]}]")
        with pytest.raises(DataError, match=r"a JPEG file cannot be an exact mask.*data\.tolerance=20"):
            first_row(opened(file))
        dataset = opened(file, tolerance=60)
        assert middle_is(dataset.masks.read(dataset.split("train")[0]), 1, 0)

    def test_black_and_white_of_a_class_list_are_its_classes(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: mask(path, 0, 255))
        file = write(tmp_path / "d.yaml", "classes: [{name: x, color: [0, 0, 0]}, {name: y, color: [255, 255, 255]}]")
        assert first_row(opened(file)) == [0, 1, 0, 1]

    def test_colours_for_pictures_do_not_change_index_masks(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: mask(path, 0, 1, 255))
        file = write(tmp_path / "d.yaml", "classes: [{name: x, color: [0, 0, 0]}, {name: y, color: [255, 255, 255]}]")
        assert first_row(opened(file))[:3] == [0, 1, 255]

    def test_class_without_a_colour_is_refused(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: color_mask(path, RED, BLUE))
        with pytest.raises(ConfigError, match="class 'x' has no color, and the masks contain colours"):
            opened(tmp_path, classes=["x", "y"])

    def test_value_among_colours_is_refused(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: color_mask(path, RED, BLUE))
        file = write(tmp_path / "d.yaml", "classes: [{name: x, color: [255, 0, 0]}]\nignore: 3")
        with pytest.raises(ConfigError, match=r"value 3: the masks contain colours; name a colour, such as '#40c000'"):
            opened(file)


class TestNumbers:
    def test_palette_counts_by_its_indices(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: palette_mask(path, [RED, BLUE, BLACK], 2, 0, 1))
        assert first_row(opened(tmp_path))[:3] == [2, 0, 1]

    @pytest.mark.parametrize("listed", ["class_dict.csv", "data.yaml"])
    def test_each_palette_in_another_order_than_the_list_counts_by_its_colours(
        self, tmp_path: Path, listed: str
    ) -> None:
        palettes = [[BLACK, RED, BLUE]] * 5 + [[BLUE, BLACK, RED, BLACK], [WHITE, BLACK, RED]]
        for number, palette in enumerate(palettes):
            image(tmp_path / "images" / f"{number}.jpg")
            palette_mask(tmp_path / "masks" / f"{number}.png", palette, 0, 1, 2)
        colors = {"a": BLACK, "b": RED, "c": BLUE}
        entries = [{"name": name, "color": list(color)} for name, color in colors.items()]
        rows = [",".join(map(str, (name, *color))) for name, color in colors.items()]
        in_yaml = listed == "data.yaml"
        file = write(
            tmp_path / listed, yaml.safe_dump({"classes": entries}) if in_yaml else "\n".join(["name,r,g,b", *rows])
        )
        dataset = opened(file if in_yaml else tmp_path)
        again = opened(write(tmp_path / "again.yaml", yaml.safe_dump(dict(dataset.description))))
        for either in (dataset, again):
            records = sorted((record for some in either.splits.values() for record in some), key=lambda it: it.id)
            read = [either.masks.read(record)[0].tolist() for record in records]
            assert read == [[0, 1, 2, 0]] * 5 + [[2, 0, 1, 2], [0, 1, 2, 0]]

    def test_ids_of_16_bits_can_be_named_and_merged(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: mask(path, 7, 24001, 24002, 65535))
        text = "classes: [{name: ground, value: 7}, {name: car, from: [24001, 24002]}]\nignore: 65535"
        assert first_row(opened(write(tmp_path / "d.yaml", text))) == [0, 1, 1, 255]

    @pytest.mark.parametrize("settings", [{"classes": ["road", "crack"]}, {}])
    def test_foreground_of_255_is_not_lost_to_the_void(self, tmp_path: Path, settings: dict[str, list[str]]) -> None:
        made(tmp_path, lambda path: mask(path, 0, 255))
        if not settings:
            write(tmp_path / "classes.txt", "road\ncrack\n")
        with pytest.raises(DataError, match=r"255 may be the foreground or ignored"):
            opened(tmp_path, **settings)
        assert labels(opened(tmp_path, ignore=255, **settings)) == [0, 255]
        assert labels(opened(tmp_path, binary=True, **settings)) == [0, 1]

    @pytest.mark.parametrize("said", [{"ignore": [3, 4]}, {}])
    def test_foreground_of_255_is_not_lost_behind_stray_values(
        self, tmp_path: Path, said: dict[str, list[int]]
    ) -> None:
        made(tmp_path, lambda path: mask(path, 0, 3, 4, 255))
        with pytest.raises(DataError, match=r"apart from 0, no value of a class, so 255 may be the foreground"):
            opened(tmp_path, classes=["bg", "crack"], **said)
        assert labels(opened(tmp_path, classes=["bg", "crack"], ignore=[3, 4, 255])) == [0, 255]
        assert labels(opened(tmp_path, classes=["bg", "crack"], ignore=[3, 4], binary=True)) == [0, 1, 255]

    def test_foreground_of_255_is_not_lost_to_a_class_of_another_value(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: mask(path, 0, 255))
        file = write(tmp_path / "d.yaml", "classes: {bg: 0, crack: 7}")
        with pytest.raises(AmbiguousDatasetError) as caught:
            opened(file)
        assert "- {name: crack, value: 255}" in caught.value.suggestion

    def test_255_that_one_mask_shows_next_to_a_class_is_ignored(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: mask(path, 0, 255))
        mask(tmp_path / "masks" / "b.png", 0, 1)
        dataset = opened(tmp_path, classes=["bg", "crack"])
        assert sorted({*labels(dataset), *labels(dataset, "val")}) == [0, 1, 255]

    def test_masks_of_another_size_need_consent(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            image(tmp_path / "images" / f"{name}.jpg", height=6, width=8)
            mask(tmp_path / "masks" / f"{name}.png", 0, 1)
        dataset = opened(tmp_path, resize_masks=True)
        assert first_row(dataset) == [0, 0, 1, 1, 0, 0, 1, 1]
        assert opened(tmp_path).masks.read(opened(tmp_path).split("train")[0]).shape == (3, 4)

    def test_classes_of_the_model_are_taken_where_nothing_else_says_any(self, tmp_path: Path) -> None:
        made(tmp_path, lambda path: mask(path, 0, 2))
        dataset = open_dataset(tmp_path, DataConfig(), fallback_classes=Classes.from_names(["x", "y", "z"]))
        assert dataset.classes.names == ("x", "y", "z")
        assert first_row(dataset) == [0, 2, 0, 2]

    @pytest.mark.parametrize("settings", [{}, {"tolerance": 9}])
    def test_colours_of_the_model_are_known_colours(self, tmp_path: Path, settings: dict[str, int]) -> None:
        made(tmp_path, lambda path: color_mask(path, RED, BLUE))
        dataset = open_dataset(tmp_path, DataConfig(**settings), fallback_classes=Classes(("x", "y"), (BLUE, RED)))
        assert first_row(dataset) == [1, 0, 1, 0]
