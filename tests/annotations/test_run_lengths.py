import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pyramidseg.annotations import run_lengths
from pyramidseg.annotations.polygons import Location, Shape, rasterise
from pyramidseg.annotations.run_lengths import decode_run_lengths
from pyramidseg.base.defects import DefectError

coco = pytest.importorskip("pycocotools.mask")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # with NumPy 2

WHERE = Location(Path("a.json"), "annotation 7")


def decoded(counts: object, height: int, width: int) -> NDArray[np.bool_]:
    runs = decode_run_lengths(counts, height=height, width=width, where=WHERE)
    return rasterise([Shape(1, runs)], height=height, width=width, where=WHERE) == 1


def lengths(pixels: NDArray[np.bool_]) -> list[int]:
    """By a loop over the pixels, down the columns."""
    counts, current = [0], False
    for pixel in pixels.T.ravel():
        if pixel != current:
            counts.append(0)
            current = bool(pixel)
        counts[-1] += 1
    return counts


masks = st.tuples(
    st.integers(1, 40), st.integers(1, 40), st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]), st.integers(0, 99)
).map(lambda drawn: np.random.default_rng(drawn[3]).random((drawn[0], drawn[1])) < drawn[2])


@settings(max_examples=200, deadline=None)
@given(masks)
def test_compressed_run_lengths_are_those_of_pycocotools(pixels: NDArray[np.bool_]) -> None:
    encoded = coco.encode(np.asfortranarray(pixels, np.uint8))
    assert np.array_equal(decoded(encoded["counts"].decode(), *pixels.shape), pixels)


@settings(max_examples=100, deadline=None)
@given(masks)
def test_lists_of_run_lengths_are_read(pixels: NDArray[np.bool_]) -> None:
    assert np.array_equal(decoded(lengths(pixels), *pixels.shape), pixels)


def test_lengths_of_many_digits_are_decompressed() -> None:
    pixels = np.zeros((3000, 2500), bool)
    pixels[100:2000, 3:2400] = True
    pixels[:, 7] = False
    encoded = coco.encode(np.asfortranarray(pixels, np.uint8))
    assert np.array_equal(decoded(encoded["counts"].decode(), 3000, 2500), pixels)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(min_codepoint=48, max_codepoint=112), min_size=1, max_size=40))
def test_short_texts_are_decompressed_as_long_ones_are(text: str) -> None:
    found: list[object] = []
    for limit in (0, 150):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(run_lengths, "_SHORT", limit)
            try:
                found.append(run_lengths._decompressed(text, where=WHERE).tolist())
            except DefectError as error:
                found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 4], "must add up to the 2 x 5 = 10 pixels"),
        ([3, 4, 30], "must add up"),
        ([20, -10], "must add up"),
        ([], "must add up"),
        ("", "must add up"),
        ([2**63, 10], "must be a list of whole numbers|must add up"),
        ([5, 5.0], "must be a list of whole numbers"),
        ([5, "5"], "must be a list of whole numbers"),
        ([5, [5]], "must be a list of whole numbers"),
        ([10**30, 5], "must be a list of whole numbers"),
        ({"a": 1}, "must be a list of whole numbers"),
        (None, "must be a list of whole numbers"),
        ("é5", "is not a COCO encoding"),
        ("3 4", "is not a COCO encoding"),
        ("3o", "is not a COCO encoding"),
        ("o" * 20 + "1", "larger than any image"),
    ],
)
def test_damage_is_refused_by_name(counts: object, message: str) -> None:
    with pytest.raises(DefectError, match=rf"^a\.json: annotation 7: .*({message})"):
        decoded(counts, 2, 5)


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30))
def test_any_text_is_a_mask_or_refused(text: str) -> None:
    with contextlib.suppress(DefectError):
        assert decoded(text, 4, 4).shape == (4, 4)
