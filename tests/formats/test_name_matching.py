"""Matching of names by what differs in them."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from made_files import image, mask, opened
from pyramidseg.base.errors import DataError
from pyramidseg.formats.name_matching import match_names

STEMS = st.lists(
    st.from_regex(r"[a-z]{1,3}[0-9]{1,3}|[0-9]{1,4}", fullmatch=True), min_size=2, max_size=12, unique=True
)
PREFIXES = st.sampled_from(["", "img_", "IMG-", "frame.", "the image "])
SUFFIXES = st.sampled_from(["", "_mask", "-seg", "_cp_masks", ".ome", "_manual1", "_color_mask", ".jpg"])


@settings(max_examples=50)
@given(STEMS, PREFIXES, SUFFIXES, PREFIXES, SUFFIXES, st.randoms(use_true_random=False))
def test_stems_with_any_affixes_pair_back(
    stems: list[str], prefix: str, suffix: str, mask_prefix: str, mask_suffix: str, order: random.Random
) -> None:
    shuffled = order.sample(stems, len(stems))
    first, second = [f"{prefix}{stem}{suffix}" for stem in stems], [f"{mask_prefix}{s}{mask_suffix}" for s in shuffled]
    match = match_names(first, second)
    assert match is not None
    assert [shuffled[place] for place in match.partners] == stems


@settings(max_examples=50)
@given(STEMS, STEMS)
def test_different_stems_are_never_paired(first: list[str], second: list[str]) -> None:
    match = match_names([f"img_{stem}" for stem in first], [f"{stem}_mask" for stem in second])
    if match is not None:
        for stem, place in zip(first, match.partners, strict=True):
            numbers = [int("".join(filter(str.isdigit, text))) for text in (stem, second[place])]
            assert numbers[0] == numbers[1]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["img_10", "img_20"], ["mask_11", "mask_21"]),  # a part of a number is not an affix
        (["cat", "bat"], ["cow", "bow"]),  # nor is a part of a word
        (["1", "01"], ["001", "0001"]),  # two images have the number 1
        (["a/1", "b/1"], ["a/1_m", "c/1_m"]),
        (["a_1", "a_2"], ["m_1", "m_2", "m_3"]),
        (["a"], ["b"]),
    ],
)
def test_names_without_one_matching_are_refused(first: list[str], second: list[str]) -> None:
    assert match_names(first, second) is None


PAIRED = [
    ("img_00{}.jpg", "mask_00{}.png"),
    ("{}.ome.tif", "{}.png"),
    ("{}.jpg", "{}.jpg.png"),
    ("cell{}.png", "cell{}_cp_masks.png"),
    ("{}.jpg", "{}_color_mask.png"),
    ("2{}_training.tif", "2{}_manual1.png"),
    ("{}.png", "00{}.png"),
    ("sub/IMG {}.jpg", "sub/seg-{}-final.png"),
]


@pytest.mark.parametrize(("image_name", "mask_name"), PAIRED)
def test_two_folders_pair_with_a_note(tmp_path: Path, image_name: str, mask_name: str) -> None:
    for n in "3124":
        image(tmp_path / "images" / image_name.format(n))
        mask(tmp_path / "masks" / mask_name.format(n))
    dataset = opened(tmp_path, val_share=0.5)
    found = {r.image.name: r.mask.name for records in dataset.splits.values() for r in records if r.mask}
    assert found == {Path(image_name.format(n)).name: Path(mask_name.format(n)).name for n in "1234"}
    assert any("paired by their names without" in note for note in dataset.notes)


def test_names_that_do_not_agree_are_one_line_with_an_example_of_each_side(tmp_path: Path) -> None:
    for n in range(9):
        image(tmp_path / "images" / f"x{n}.jpg")
        mask(tmp_path / "masks" / f"{n + 20}.png")
    with pytest.raises(
        DataError, match=r"none of its 9 masks, such as 20\.png, .* 9 images in .*as x0\.jpg"
    ) as refusal:
        opened(tmp_path)
    assert str(refusal.value).count("\n") == 0
    rows = [f"images/x{n}.jpg masks/{n + 20}.png\n" for n in range(9)]
    (tmp_path / "train.txt").write_text("".join(rows[:7]))
    (tmp_path / "val.txt").write_text("".join(rows[7:]))
    assert [len(records) for records in opened(tmp_path).splits.values()] == [7, 2]


def test_many_names_are_matched_without_comparing_each_with_each() -> None:
    names = list(range(20_000))
    match = match_names([f"img_{n}" for n in names], [f"{n:05}_mask" for n in reversed(names)])
    assert match is not None
    assert match.partners[:3] == (19_999, 19_998, 19_997)
