import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.demo.scenes import draw_scene
from pyramidseg.inspection.perceptual_hash import (
    MAX_BITS,
    MIN_CORRELATION,
    nearest_hashes,
    perceptual_hash,
    thumbnail_correlation,
)


def bits_between(one: int, other: int) -> int:
    return (one ^ other).bit_count()


@pytest.fixture(scope="module")
def pictures() -> list[NDArray[np.uint8]]:
    return [draw_scene(index, height=120, width=160).image for index in range(8)]


def as_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=quality)
    return np.asarray(Image.open(data))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: as_jpeg(image, 40),
        lambda image: cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
        lambda image: cv2.resize(image, (173, 131), interpolation=cv2.INTER_CUBIC),
        lambda image: (image * 0.7).astype(np.uint8),
        lambda image: np.random.default_rng(0).normal(image, 6).clip(0, 255).astype(np.uint8),
        lambda image: image.astype(np.uint16) * 257,
        lambda image: image.astype(np.float32) / 255,
    ],
)
def test_changed_copies_have_similar_hashes(pictures: list[NDArray[np.uint8]], change) -> None:
    for picture in pictures:
        one, other = perceptual_hash(picture), perceptual_hash(change(picture))
        assert one is not None
        assert other is not None
        assert bits_between(one, other) <= MAX_BITS
        assert thumbnail_correlation(picture, change(picture)) >= MIN_CORRELATION


def test_only_the_first_three_channels_count(pictures: list[NDArray[np.uint8]]) -> None:
    one, other = (
        perceptual_hash(pictures[0]),
        perceptual_hash(np.concatenate([pictures[0], 255 - pictures[0]], axis=2)),
    )
    assert one is not None
    assert other is not None
    assert bits_between(one, other) <= MAX_BITS


def test_hashes_of_different_scenes_differ(pictures: list[NDArray[np.uint8]]) -> None:
    hashes = [perceptual_hash(picture) or 0 for picture in pictures]
    apart = [bits_between(one, other) for index, one in enumerate(hashes) for other in hashes[:index]]
    assert min(apart) > MAX_BITS


@pytest.mark.parametrize("value", [0, 7, 255])
def test_flat_images_have_no_hash(value: int) -> None:
    assert perceptual_hash(np.full((30, 40, 3), value, np.uint8)) is None
    nearly = np.full((30, 40, 3), max(value, 100), np.uint8)
    nearly[0, 0] -= 1
    assert perceptual_hash(nearly) is None


hashes = st.lists(
    st.builds(lambda base, flips: base ^ sum({1 << flip for flip in flips}),
              st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF]), st.lists(st.integers(0, 63), max_size=9)),
    max_size=30,
)  # fmt: skip


@given(hashes, hashes, st.integers(0, 8))
@settings(max_examples=60, deadline=None)
def test_nearest_hash_equals_a_loop(queries: list[int], pool: list[int], max_bits: int) -> None:
    found = nearest_hashes(np.array(queries, np.uint64), np.array(pool, np.uint64), max_bits=max_bits)
    for place, query in enumerate(queries):
        apart = [bits_between(query, other) for other in pool]
        best = min(apart, default=65)
        assert found[place] == (apart.index(best) if best <= max_bits else -1)


def test_hashes_are_compared_in_blocks() -> None:
    values = np.random.default_rng(0).integers(0, 2**64, 3000, np.uint64)
    others = np.random.default_rng(1).integers(0, 2**64, 3000, np.uint64)
    others[-1] = values[0] ^ np.uint64(0b10110)
    assert nearest_hashes(values, others).tolist() == [2999] + [-1] * 2999
