"""Label Studio's run lengths: streams that its SDK wrote, streams with literal words, and damaged ones."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pyramidseg.annotations.brush_rle import decode_brush, encode_brush
from pyramidseg.annotations.polygons import Location
from pyramidseg.base.errors import DataError

WHERE = Location(Path("a.json"), "object 1")
SIZES = (3, 4, 8, 16)

BY_SDK = [
    0,
    0,
    1,
    64,
    57,
    27,
    254,
    83,
    0,
    194,
    255,
    247,
    192,
    48,
    191,
    253,
    240,
    12,
    47,
    255,
    149,
    192,
    35,
    255,
    196,
    224,
    0,
]
"""Written by `label_studio_sdk.converter.brush.encode_rle` for the pixels of `drawn`."""


def drawn() -> NDArray[np.bool_]:
    pixels = np.zeros((8, 10), np.bool_)
    pixels[2:5, 1:7] = True
    pixels[6, 9] = True
    return pixels


def encoded(words: NDArray[np.uint8], lengths: list[int], literal: list[bool]) -> list[int]:
    """A stream of packets of the given lengths; literal ones hold each word, others only their first."""
    bits = f"{len(words):032b}{7:05b}" + "".join(f"{size - 1:04b}" for size in SIZES)
    place = 0
    for number, length in enumerate(lengths):
        part = words[place : place + length]
        place += length
        size = next(index for index, size in enumerate(SIZES) if len(part) <= 1 << size)
        is_literal = literal[number % len(literal)]
        bits += f"{0 if is_literal else 1}{size:02b}{len(part) - 1:0{SIZES[size]}b}"
        bits += "".join(f"{word:08b}" for word in (part if is_literal else part[:1]))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[index : index + 8], 2) for index in range(0, len(bits), 8)]


def test_stream_of_the_sdk_is_decoded_to_its_pixels() -> None:
    assert np.array_equal(decode_brush(BY_SDK, height=8, width=10, where=WHERE), drawn())


@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_literal_words_are_read_at_any_bit_position(lengths: list[int]) -> None:
    generator = np.random.default_rng(sum(lengths))
    total = 4 * sum(lengths)
    words = generator.integers(0, 3, total, dtype=np.uint8) * 100
    stream = encoded(words, [4 * length for length in lengths], [True])
    pixels = decode_brush(stream, height=1, width=sum(lengths), where=WHERE)
    assert np.array_equal(pixels[0], words[3::4] > 0)


def test_soft_borders_belong_to_the_region() -> None:
    words = np.array([0, 0, 0, 0, 9, 9, 9, 1, 255, 255, 255, 255], np.uint8)
    stream = encoded(words, [12], [True])
    assert decode_brush(stream, height=1, width=3, where=WHERE).tolist() == [[False, True, True]]


def test_runs_and_literals_alternate() -> None:
    words = np.repeat(np.array([255, 0, 7, 0], np.uint8), [4, 1200, 4, 8])
    stream = encoded(words, [4, 1200, 4, 8], [False, False, True])
    pixels = decode_brush(stream, height=2, width=152, where=WHERE).ravel()
    assert np.flatnonzero(pixels).tolist() == [0, 301]


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (BY_SDK[:-4], "end too early"),
        (BY_SDK[:6], "are of 320 words"),
        ([], "list of whole numbers"),
        ("abc", "list of whole numbers"),
        (None, "list of whole numbers"),
        ([1, 2, 256], "list of whole numbers"),
        ([0.5], "list of whole numbers"),
        ([[1]], "list of whole numbers"),
        ([2**70], "list of whole numbers"),
        ([255] * 12, "are of 4294967295 words of 32 bits"),
    ],
)
def test_damaged_stream_is_refused(stream: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_brush(stream, height=8, width=10, where=WHERE)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_what_is_encoded_is_decoded_equal(height: int, width: int, seed: int, share: float) -> None:
    pixels = np.random.default_rng(seed).random((height, width)) < share
    assert np.array_equal(decode_brush(encode_brush(pixels), height=height, width=width, where=WHERE), pixels)


@pytest.mark.parametrize("run", [16383, 16384, 16385, 32768, 70000])
def test_runs_are_split_at_the_longest_length(run: int) -> None:
    pixels = np.concatenate([np.ones((1, run), bool), np.zeros((1, 3), bool)], axis=1)
    assert np.array_equal(decode_brush(encode_brush(pixels), height=1, width=run + 3, where=WHERE), pixels)
