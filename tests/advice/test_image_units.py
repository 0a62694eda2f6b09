"""Conversions that messages about the values of images ask for: the labels are those of the right image."""

import logging
import re

import numpy as np
import pytest
import torch

from followed import message
from pyramidseg.images.value_range import BYTES, ValueRange
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predictor import Predictor

SMALL = {"encoder": "test_resnet", "encoder_weights": "none", "pyramid_channels": 8, "segmentation_channels": 8}
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
DEEP = np.random.default_rng(0).integers(0, 65536, (40, 50, 3)).astype(np.uint16)
TWELVE_BITS = ValueRange("uint16", 0, 4095)


@pytest.fixture(scope="module")
def models() -> dict[ValueRange, Segmenter]:
    made = {}
    for trained in (BYTES, ValueRange("uint16", 0, 65535), ValueRange("float32", 0, 1), TWELVE_BITS):
        torch.manual_seed(0)
        model = Segmenter(**SMALL, num_classes=3)
        torch.nn.init.normal_(model.classifier.weight)
        model.value_range = trained
        if trained == TWELVE_BITS:
            model.set_normalization((0.03,) * 3, (0.02,) * 3)
        made[trained] = model.eval()
    return made


def converted(text: str, values: np.ndarray) -> list[np.ndarray]:
    """Every conversion that a message asks for, as it is written there."""
    found = []
    if match := re.search(r"divide by (\d+)", text):
        found.append(values / int(match[1]))
    if match := re.search(r"give (uint\d+)", text):
        found.append(values.astype(match[1]))
    if match := re.search(r"\((image [^)]*)\)", text):
        found.append(eval(match[1], {"image": values, "np": np}))
    if match := re.search(r"(image\.astype\(np\.\w+\))", text):
        found.append(eval(match[1], {"image": values, "np": np}))
    return found


@pytest.mark.parametrize(
    ("trained", "right", "given", "ways"),
    [
        (BYTES, PIXELS, PIXELS.astype(np.float32), 2),
        (BYTES, PIXELS, PIXELS.astype(np.int16), 2),
        (BYTES, PIXELS, PIXELS.astype(np.uint16), 2),
        (BYTES, PIXELS, PIXELS.astype(np.int64), 1),
        (BYTES, DEEP >> 8 << 8, (DEEP >> 8 << 8) >> 8, 2),
        (BYTES, DEEP >> 4 << 4, DEEP >> 4, 1),
        (BYTES, DEEP >> 6 << 6, DEEP >> 6, 1),
        (ValueRange("uint16", 0, 65535), DEEP, DEEP.astype(np.float32), 2),
        (ValueRange("uint16", 0, 65535), DEEP, DEEP.astype(np.int32), 1),
        (ValueRange("float32", 0, 1), PIXELS, PIXELS.astype(np.float32), 2),
        (ValueRange("float32", 0, 1), DEEP, DEEP.astype(np.float32), 2),
        (TWELVE_BITS, DEEP >> 4, (DEEP >> 4).astype(np.float32), 2),
        (TWELVE_BITS, DEEP >> 8 << 4, DEEP >> 8, 1),
    ],
)
def test_every_way_gives_the_labels_of_the_right_image(
    models: dict[ValueRange, Segmenter],
    trained: ValueRange,
    right: np.ndarray,
    given: np.ndarray,
    ways: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    predictor = Predictor(models[trained], device="cpu")  # which warns once
    expected = predictor.predict(right).labels
    assert len(np.unique(expected)) > 1
    caplog.set_level(logging.WARNING)
    caplog.clear()
    try:
        predictor.predict(given)
    except ValueError as error:
        text = str(error)
    else:
        text = caplog.text
    found = converted(text, given)
    assert len(found) == ways, text
    for image in found:
        assert np.mean(predictor.predict(image).labels == expected) > 0.99


def test_eight_bits_as_floats_are_not_divided_by_65535(models: dict[ValueRange, Segmenter]) -> None:
    predictor = Predictor(models[ValueRange("uint16", 0, 65535)], device="cpu")  # which warns once
    text = message(lambda: predictor.predict(PIXELS.astype(np.float32)))
    assert "divide" not in text and "give the images as they were in training (uint16 from 0 to 65535)" in text
    expected = predictor.predict(PIXELS).labels
    assert (predictor.predict(PIXELS.astype(np.uint16) * 257).labels == expected).mean() > 0.99


def test_a_batch_is_given_one_by_one(models: dict[ValueRange, Segmenter]) -> None:
    predictor = Predictor(models[BYTES], device="cpu")  # which warns once
    batch = np.stack([PIXELS, PIXELS[::-1]])
    assert "give the images of a batch one by one" in message(lambda: predictor.predict(batch))
    assert [predictor.predict(image).labels.shape for image in batch] == [(40, 50)] * 2


def test_values_that_are_not_finite_are_replaced_by_the_mean(models: dict[ValueRange, Segmenter]) -> None:
    predictor = Predictor(models[BYTES], device="cpu")  # which warns once
    holed = (PIXELS / 255).astype(np.float32)
    holed[0, 0] = np.nan
    assert "replace them first, for instance by the mean" in message(lambda: predictor.predict(holed))
    filled = np.where(np.isnan(holed), np.nanmean(holed), holed)
    assert (predictor.predict(filled).labels == predictor.predict(PIXELS).labels).mean() > 0.99
