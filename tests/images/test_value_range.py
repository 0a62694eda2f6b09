"""Images in other units than the training images: impossible ones are refused, suspicious ones warned of."""

import logging
import re

import numpy as np
import pytest
import torch

from pyramidseg.base.errors import DataError
from pyramidseg.data.channel_statistics import channel_sums
from pyramidseg.images.value_range import BYTES, UNITS, RangeCheck, ValueRange
from pyramidseg.model.input_scaling import normalize

TWELVE = ValueRange("uint16", 0, 4095)
SIXTEEN = ValueRange("uint16", 12, 65535)
METRES = ValueRange("float32", 0, 800)
SIGNED = ValueRange("int16", -300, 9000)
SHARES = ValueRange("float32", 0, 1)
REFLECTANCE = ValueRange("float32", 0, 0.12)


def image(dtype, low, high):
    return np.linspace(low, high, 48).reshape(4, 4, 3).astype(dtype)


def outcome(trained, values):
    """`refused`, `warned` or `taken`, and the message."""
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = logging.getLogger("pyramidseg.images.value_range")
    logger.addHandler(handler)
    try:
        RangeCheck(trained)(values, "a.tif")
    except DataError as error:
        return "refused", str(error)
    finally:
        logger.removeHandler(handler)
    return ("warned", records[0]) if records else ("taken", "")


@pytest.mark.parametrize(
    ("trained", "values", "expected", "message"),
    [
        (BYTES, image("uint8", 0, 9), "taken", ""),
        (BYTES, image("float32", 0, 1), "taken", ""),
        (BYTES, image("float32", -0.03, 1.04), "taken", ""),  # resampling overshoots
        (BYTES, image("uint16", 0, 65535), "taken", ""),
        (BYTES, image("float32", 0, 255), "refused", "divide by 255 or give uint8"),
        (BYTES, image("float32", 0, 4095), "refused", "give the images as they were in training"),
        (BYTES, image("int16", 0, 255), "refused", "divide by 255 or give uint8"),
        (BYTES, image("int16", 0, 1), "refused", "divide by 255 or give uint8"),
        (BYTES, image("float32", -2.1, 2.6), "refused", "look normalised, which the model does itself"),
        (BYTES, image("float32", -0.4, 0.9), "warned", "look normalised"),
        (BYTES, image("uint16", 0, 255), "warned", r"8 bits, shift them to 16 \(image << 8\), or give uint8"),
        (BYTES, image("uint16", 0, 1023), "warned", r"10 bits, shift them to 16 \(image << 6\)"),
        (BYTES, image("uint16", 0, 4095), "warned", r"12 bits, shift them to 16 \(image << 4\)"),
        (BYTES, image("float32", 0, 1 / 255), "warned", "lowest sixteenth"),  # divided twice
        (BYTES, np.zeros((4, 4, 3), np.uint16), "taken", ""),  # black
        (SIXTEEN, image("uint16", 0, 65535), "taken", ""),
        (SIXTEEN, image("uint8", 0, 255), "taken", ""),
        (SIXTEEN, image("uint16", 0, 4095), "warned", "12 bits"),
        (SIXTEEN, image("float32", 0, 65535), "refused", "divide by 65535 or give uint16"),
        (TWELVE, image("uint16", 0, 4095), "taken", ""),
        (TWELVE, image("uint16", 0, 65535), "warned", "far outside"),
        (TWELVE, image("uint8", 0, 255), "refused", "trained on uint16 from 0 to 4095"),
        (TWELVE, image("float32", 0, 1), "refused", "trained on uint16 from 0 to 4095"),
        (TWELVE, image("float32", 0, 0.06), "taken", ""),
        (TWELVE, image("float32", 0, 4095), "refused", "divide by 65535 or give uint16"),
        (METRES, image("float32", 100, 1200), "taken", ""),
        (METRES, image("int16", 0, 700), "taken", ""),
        (METRES, image("float32", 0, 30000), "warned", "far outside"),
        (METRES, image("float32", 0, 1), "warned", "lowest sixteenth"),
        (METRES, image("uint8", 0, 255), "refused", r"image\.astype\(np\.float32\)"),
        (SIGNED, image("uint16", 0, 9000), "refused", r"image\.astype\(np\.float32\)"),
        (SIGNED, image("int16", 0, 9000), "taken", ""),
        (SHARES, image("uint8", 0, 255), "taken", ""),
        (SHARES, image("float32", 0, 255), "refused", "divide by 255 or give uint8"),
        (REFLECTANCE, image("uint8", 0, 255), "refused", "trained on float32 from 0 to 0.12"),
        (None, image("float32", 0, 1e6), "taken", ""),  # older bundles
    ],
)
def test_outcome_and_advice(trained, values, expected, message):
    found, text = outcome(trained, values)
    assert (found, "\n" in text) == (expected, False), text
    assert re.search(message, text), text


@pytest.mark.parametrize(
    ("trained", "values", "follow"),
    [
        (BYTES, image("float32", 0, 255), lambda values: values / 255),
        (BYTES, image("float32", 0, 255), lambda values: values.astype(np.uint8)),
        (BYTES, image("int16", 0, 255), lambda values: values.astype(np.uint8)),
        (BYTES, image("uint16", 0, 4095), lambda values: values << 4),
        (BYTES, image("uint16", 0, 255), lambda values: values << 8),
        (SIXTEEN, image("float32", 0, 65535), lambda values: values / 65535),
        (SIXTEEN, image("float32", 0, 65535), lambda values: values.astype(np.uint16)),
        (METRES, image("uint8", 0, 255), lambda values: values.astype(np.float32)),
    ],
)
def test_what_follows_the_advice_is_taken(trained, values, follow):
    assert outcome(trained, values)[0] != "taken"
    assert outcome(trained, follow(values))[0] == "taken"


def test_one_warning_for_many_images(caplog):
    check = RangeCheck(BYTES)
    with caplog.at_level(logging.WARNING):
        for name in "abc":
            check(image("uint16", 0, 4095), name)
    assert len(caplog.records) <= 1


@pytest.mark.parametrize("text", ["3", "{}", '{"dtype": "uint8", "low": 3, "high": 1}', "[" * 10**5 + "]" * 10**5])
def test_other_metadata_are_refused(text):
    with pytest.raises(ValueError):
        ValueRange.from_json(text)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_the_network_statistics_and_checks_of_images_have_the_same_units(dtype: str) -> None:
    largest = np.iinfo(dtype).max if dtype in UNITS else 7
    values = np.full((2, 2, 1), largest, dtype)
    network = normalize(torch.from_numpy(values).permute(2, 0, 1)[None], torch.zeros(1), torch.ones(1))
    expected = 1 if dtype in UNITS else 7
    assert network.unique().tolist() == [expected]
    assert channel_sums(values)[0].statistics().mean == expected
    assert ValueRange.of(values).shares == (expected, expected)
