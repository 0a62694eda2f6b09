from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_files import color_mask, mask, palette_mask, save
from pyramidseg.base.classes import Color
from pyramidseg.formats.mask_sampling import any_255_without_class, count_mask_values, find_color_mask, foreground_value

BLACK, WHITE, GREY, RED = (0, 0, 0), (255, 255, 255), (128, 128, 128), (255, 0, 0)


def reading(masks: list[Path], *colors: Color | None, tolerance: int = 0) -> str:
    found = find_color_mask(masks, enumerate(colors), tolerance=tolerance)
    return "index" if found is None else "colours"


class TestFindColorMask:
    def test_coloured_pixels_are_colours(self, tmp_path: Path) -> None:
        assert reading([color_mask(tmp_path / "a.png", BLACK, RED)]) == "colours"

    def test_black_rgb_masks_do_not_hide_a_coloured_one(self, tmp_path: Path) -> None:
        masks = [color_mask(tmp_path / f"{index}.png", BLACK) for index in range(20)]
        assert reading([*masks, color_mask(tmp_path / "z.png", BLACK, RED)], BLACK, RED) == "colours"
        assert reading(masks, BLACK, RED) == "index"

    @pytest.mark.parametrize("saved", [mask, lambda path, *values: color_mask(path, *[(v, v, v) for v in values])])
    @pytest.mark.parametrize("place", ["a", "m", "z"])
    def test_one_coloured_mask_does_not_outvote_the_others(
        self, tmp_path: Path, place: str, saved: Callable[..., Path]
    ) -> None:
        masks = [saved(tmp_path / f"{name}0.png", 0, 1, 2) for name in "bcdefnopq"]
        masks.append(color_mask(tmp_path / f"{place}.png", BLACK, RED))
        assert reading(sorted(masks)) == reading(sorted(masks), GREY, RED, BLACK) == "index"

    def test_one_grey_mask_does_not_outvote_the_coloured_ones(self, tmp_path: Path) -> None:
        masks = [color_mask(tmp_path / f"{name}.png", BLACK, RED) for name in "bcdef"]
        assert reading([mask(tmp_path / "a.png", 0, 1, 2), *masks]) == "colours"

    def test_masks_in_front_do_not_decide_for_the_rest(self, tmp_path: Path) -> None:
        masks = [color_mask(tmp_path / f"{index:02d}.png", BLACK, RED) for index in range(10)]
        masks += [mask(tmp_path / f"{index}.png", 0, 1, 2) for index in range(10, 60)]
        assert reading(masks) == "index"

    @pytest.mark.parametrize(
        ("values", "colors", "expected"),
        [
            ((0, 255), (BLACK, WHITE), "colours"),  # the list says that white is class 1
            ((0, 1), (BLACK, WHITE), "index"),
            ((0, 1, 255), (BLACK, WHITE), "index"),  # 255 is void
            ((0, 3, 4, 255), (BLACK, WHITE), "colours"),  # 3 and 4 are strays either way
            ((0,), (BLACK, WHITE), "index"),
            ((255,), (BLACK, WHITE), "colours"),
            ((0, 128, 255), (BLACK, GREY, WHITE), "colours"),
            ((0, 1, 2), (BLACK, GREY, WHITE), "index"),
            ((0, 255), (BLACK, RED), "index"),
            ((0, 255), (None, None), "index"),
            ((0, 1, 2, 11), (GREY, RED), "index"),
        ],
    )
    def test_grey_masks_are_read_as_more_of_them_makes_sense(
        self, tmp_path: Path, values: tuple[int, ...], colors: tuple[Color | None, ...], expected: str
    ) -> None:
        together = [mask(tmp_path / "all.png", *values)]
        apart = [mask(tmp_path / f"{value}.png", value) for value in values]
        assert reading(together, *colors) == reading(apart, *colors) == expected

    def test_blurred_grey_is_a_colour_within_the_tolerance(self, tmp_path: Path) -> None:
        masks = [mask(tmp_path / "a.png", 0, 3, 250, 255)]
        assert reading(masks, BLACK, WHITE, tolerance=10) == "colours"

    def test_palette_in_place_is_read_by_index(self, tmp_path: Path) -> None:
        assert reading([palette_mask(tmp_path / "a.png", [BLACK, RED], 0, 1)], BLACK, RED) == "index"

    def test_reordered_palette_is_read_by_its_colours_even_behind_empty_masks(self, tmp_path: Path) -> None:
        empty = palette_mask(tmp_path / "a.png", [BLACK], 0)
        reordered = palette_mask(tmp_path / "b.png", [RED, BLACK], 0, 1)
        assert reading([empty, reordered], BLACK, RED) == "colours"

    def test_palette_of_other_colours_is_read_by_index(self, tmp_path: Path) -> None:
        assert reading([palette_mask(tmp_path / "a.png", [GREY, WHITE], 0, 1)], BLACK, RED) == "index"

    def test_palette_of_the_listed_colours_that_ends_before_an_index_is_read_by_index(self, tmp_path: Path) -> None:
        filled_up = [BLACK, RED, *[BLACK] * 254]
        assert reading([palette_mask(tmp_path / "a.png", filled_up, 0, 1, 77)], BLACK, RED) == "index"

    def test_masks_that_cannot_be_read_do_not_decide(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(b"")
        assert reading([tmp_path / "a.png", color_mask(tmp_path / "b.png", RED)]) == "colours"


class TestBinaryValues:
    @pytest.mark.parametrize(
        ("masks", "expected"),
        [
            ([(0, 255), (0,)], True),
            ([(0,), (0, 255, 1)], False),
            ([(0,)], False),
            ([(255,)], True),
            ([(0, 3), (0, 255, 4)], True),
            ([(0, 3, 4)], False),
        ],
    )
    def test_255_next_to_no_class_is_found_whatever_strays_there_are(
        self, tmp_path: Path, masks: list[tuple[int, ...]], expected: bool
    ) -> None:
        files = [mask(tmp_path / f"{index}.png", *values) for index, values in enumerate(masks)]
        assert any_255_without_class(files, {0, 1, 2}) is expected

    @pytest.mark.parametrize(
        ("masks", "expected"),
        [([(0,), (0, 1)], 1), ([(0, 255)], 255), ([(0,)], 255), ([(0, 1, 255)], 255), ([(1,)], 1)],
    )
    def test_foreground_is_1_where_masks_hold_no_more(
        self, tmp_path: Path, masks: list[tuple[int, ...]], expected: int
    ) -> None:
        files = [mask(tmp_path / f"{index}.png", *values) for index, values in enumerate(masks)]
        assert foreground_value(files) == expected


@given(st.lists(st.lists(st.integers(0, 300), min_size=1, max_size=20), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_counts_equal_a_loop(tmp_path_factory: pytest.TempPathFactory, content: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("masks")
    files = []
    for index, values in enumerate(content):
        save(folder / f"{index}.png", np.array([values], np.uint16))
        files.append(folder / f"{index}.png")
    counts = count_mask_values(files)
    everything = [value for values in content for value in values]
    assert dict(counts.pixels) == {value: everything.count(value) for value in everything}
    for value in everything:
        assert counts.masks[value] == sum(value in values for values in content)
        assert counts.first[value] == next(file for file, values in zip(files, content, strict=True) if value in values)
        assert counts.share(value) == everything.count(value) / len(everything)
