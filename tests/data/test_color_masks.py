from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from made_files import color_mask, palette_mask, save
from pyramidseg.base.classes import IGNORE
from pyramidseg.base.errors import DataError
from pyramidseg.data.class_masks import ClassMasks, UnknownValuesError
from pyramidseg.data.color_masks import ColorValues, pack, packed, read_colors, unpack
from pyramidseg.data.records import Record

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
COLORS = st.tuples(*[st.integers(0, 255)] * 3)


def record(mask: Path) -> Record:
    return Record(mask.stem, mask.with_suffix(".jpg"), mask)


@given(COLORS)
def test_packing_is_hexadecimal_and_can_be_undone(color: tuple[int, int, int]) -> None:
    assert f"{pack(color):06x}" == "".join(f"{value:02x}" for value in color)
    assert unpack(pack(color)) == color
    assert packed(np.array([[color]], np.uint8)).tolist() == [[pack(color)]]


class TestReadColors:
    def test_rgb_palette_and_grey_give_their_colours(self, tmp_path: Path) -> None:
        color_mask(tmp_path / "rgb.png", RED, GREEN)
        palette_mask(tmp_path / "palette.png", [GREEN, BLUE, RED], 2, 0)
        save(tmp_path / "grey.png", np.array([[7, 200]], np.uint8))
        assert read_colors(tmp_path / "rgb.png")[0, :2].tolist() == [pack(RED), pack(GREEN)]
        assert read_colors(tmp_path / "palette.png")[0, :2].tolist() == [pack(RED), pack(GREEN)]
        assert read_colors(tmp_path / "grey.png")[0].tolist() == [0x070707, 0xC8C8C8]

    def test_jpeg_is_refused_unless_losses_are_allowed(self, tmp_path: Path) -> None:
        color_mask(tmp_path / "a.jpg", RED)
        with pytest.raises(DataError, match=r"a\.jpg: a JPEG file cannot be an exact mask"):
            read_colors(tmp_path / "a.jpg")
        assert read_colors(tmp_path / "a.jpg", lossy=True).shape == (3, 4)

    def test_transparency_is_refused(self, tmp_path: Path) -> None:
        Image.new("RGBA", (4, 4), (1, 2, 3, 9)).save(tmp_path / "a.png")
        with pytest.raises(DataError, match="transparent"):
            read_colors(tmp_path / "a.png")

    def test_16_bits_are_refused(self, tmp_path: Path) -> None:
        save(tmp_path / "a.png", np.zeros((2, 2), np.uint16))
        with pytest.raises(DataError, match=r"8-bit RGB or palette masks, but this file .* I;16 with 16 bits"):
            read_colors(tmp_path / "a.png")

    def test_mask_is_turned_by_its_own_tag(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        color_mask(tmp_path / "a.png", RED, RED, RED, BLUE, exif=exif)
        turned = read_colors(tmp_path / "a.png")
        assert turned.shape == (4, 3)
        assert set(turned[3].tolist()) == {pack(BLUE)}


class TestColorValues:
    @given(
        st.lists(COLORS, min_size=1, max_size=6, unique=True),
        st.integers(0, 40),
        st.lists(COLORS, min_size=1, max_size=12),
    )
    @settings(max_examples=60, deadline=None)
    def test_snapping_equals_a_loop(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        known: list[tuple[int, int, int]],
        tolerance: int,
        pixels: list[tuple[int, int, int]],
    ) -> None:
        made = save(tmp_path_factory.getbasetemp() / "colors.png", np.array([pixels], np.uint8))
        read = ColorValues(tuple(map(pack, known)), tolerance).read(made)[0].tolist()
        for color, found in zip(pixels, read, strict=True):
            distances = [max(abs(a - b) for a, b in zip(color, other, strict=True)) for other in known]
            if min(distances) > tolerance:
                assert found == pack(color)
            else:
                assert found in [
                    pack(other) for other, far in zip(known, distances, strict=True) if far == min(distances)
                ]

    def test_exact_colours_keep_every_other_value(self, tmp_path: Path) -> None:
        values = ColorValues((pack(RED),)).read(record(color_mask(tmp_path / "a.png", RED, (254, 0, 0))))
        assert values[0, :2].tolist() == [0xFF0000, 0xFE0000]

    def test_jpeg_is_read_within_the_tolerance(self, tmp_path: Path) -> None:
        noisy = np.zeros((32, 32, 3), np.uint8)
        noisy[:, 16:] = (200, 30, 60)
        Image.fromarray(noisy).save(tmp_path / "a.jpg", quality=90, subsampling=0)
        masks = ClassMasks.from_values({0: 0, pack((200, 30, 60)): 1}, values=ColorValues((0, pack((200, 30, 60))), 40))
        assert np.array_equal(masks.read(record(tmp_path / "a.jpg")), noisy[..., 0] // 200)

    def test_values_in_words_are_hexadecimal(self) -> None:
        assert ColorValues().describe([0x40C000, 0]) == "#40c000, #000000"
        assert ColorValues().describe([]) == "none"

    def test_record_without_a_mask_is_named(self) -> None:
        with pytest.raises(DataError, match=r"a\.jpg: has no mask"):
            ColorValues().read(Record("a", Path("a.jpg")))


class TestClassMasksOfColors:
    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_merged_and_ignored_colours_equal_a_loop(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
    ) -> None:
        colors = data.draw(st.lists(COLORS, min_size=2, max_size=10, unique=True))
        kept = data.draw(st.integers(1, len(colors)))
        ids = {pack(color): data.draw(st.integers(0, 3)) for color in colors[:kept]}
        ignored = [pack(color) for color in colors[kept:]]
        stray = data.draw(st.lists(COLORS, max_size=3))
        rest = data.draw(st.booleans())
        pixels = data.draw(st.lists(st.sampled_from([*colors, *stray]), min_size=1, max_size=24))
        made = save(tmp_path_factory.getbasetemp() / "merged.png", np.array([pixels], np.uint8))
        masks = ClassMasks.from_values(ids, ignore=ignored, values=ColorValues(), ignore_unlisted=rest)
        unknown = [value for color in pixels if (value := pack(color)) not in {*ids, *ignored}]
        if unknown and not rest:
            with pytest.raises(UnknownValuesError) as caught:
                masks.read(made)
            assert caught.value.pixels == {value: unknown.count(value) for value in unknown}
        else:
            assert masks.read(made).tolist() == [[ids.get(pack(color), IGNORE) for color in pixels]]

    def test_unknown_colour_is_named_as_users_write_it(self, tmp_path: Path) -> None:
        made = record(color_mask(tmp_path / "a.png", RED, (1, 2, 3)))
        with pytest.raises(
            UnknownValuesError,
            match=r"mask value #010203 \(6 pixels\) is not a known class \(known: #ff0000; ignored: none\)",
        ):
            ClassMasks.from_values({pack(RED): 0}, values=ColorValues()).read(made)


def test_grey_with_an_alpha_that_hides_nothing_is_a_colour(tmp_path: Path) -> None:
    Image.new("LA", (2, 2), (7, 255)).save(tmp_path / "a.png")
    assert read_colors(tmp_path / "a.png").tolist() == [[0x070707] * 2] * 2
