"""Augmentation: sizes, alignment of image and mask, types, and dependence on nothing but the generator."""

from functools import partial

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.classes import IGNORE
from pyramidseg.data.transforms import Augmentation, draw_rare_pixel, jitter_color, random_scaled_crop, resize

EVERYTHING = {
    **{"vertical_flip": 0.5, "quarter_turns": 0.75, "rotation": 30, "shear": 20, "gamma": 0.4, "grey": 1, "blur": 1},
    **{
        "noise": 1,
        "jpeg": 1,
        "cutout": 1,
        "rare_class_crops": 0.5,
        "copy_paste": 1,
        "pixels": (5, 4, 3, 2, 1, 6, 7, 8),
    },
}


def pair(height: int, width: int, channels: int = 3, dtype: type = np.uint8) -> tuple[np.ndarray, np.ndarray]:
    """An image whose every channel is its label times 10, in large blocks."""
    labels = (np.add.outer(np.arange(height) // 16, np.arange(width) // 16) % 8).astype(np.uint8)
    return np.repeat((labels * 10).astype(dtype)[:, :, None], channels, axis=2), labels


def augmented(
    image: np.ndarray, labels: np.ndarray, rng: np.random.Generator, *, pixels: tuple[int, ...] = (), **given: object
) -> tuple[np.ndarray, np.ndarray]:
    """With scale 0.5 to 2 and strong colour; the other pair is the same."""
    settings_ = AugmentationConfig.model_validate({"scale": (0.5, 2.0), "color": 0.3, **given})
    return Augmentation(settings_, pixels)(image, labels, rng, other=lambda _: (image, labels))


@given(
    st.integers(1, 150),
    st.integers(1, 150),
    st.integers(1, 13),
    st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]),
    st.integers(0, 1000),
    st.sampled_from([{}, {"augment": "strong"}, {"augment": "aerial", "shear": 40, "copy_paste": 1}, EVERYTHING]),
)
@settings(max_examples=50, deadline=None)
def test_any_image_becomes_a_crop_of_its_type(
    height: int, width: int, channels: int, dtype: type, seed: int, given_: dict[str, object]
) -> None:
    image, labels = pair(height, width, channels, dtype)
    crop, crop_labels = augmented(image, labels, np.random.default_rng(seed), crop=(40, 56), **given_)
    assert crop.shape == (40, 56, channels)
    assert crop.dtype == dtype
    assert crop_labels.shape == (40, 56)
    assert crop_labels.dtype == np.uint8
    assert set(np.unique(crop_labels)) <= {*np.unique(labels), IGNORE}
    assert crop.flags.c_contiguous
    assert crop_labels.flags.c_contiguous


@pytest.mark.parametrize("crop", [(1, 1), (64, 1), (1, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_torch_takes_crops_of_one_pixel_in_all_directions(crop: tuple[int, int], channels: int) -> None:
    image, labels = pair(80, 90, channels)
    changes = {"flip": 1.0, "vertical_flip": 1.0, "quarter_turns": 1.0, "gamma": 0.5, "color": 0.0}
    for seed in range(8):
        for looks in ({}, {"gamma": 0.0}):
            pixels = augmented(image, labels, np.random.default_rng(seed), crop=crop, **{**changes, **looks})
            config = AugmentationConfig.model_validate({"crop": crop, **changes, **looks})
            views = Augmentation(config).two_views(image, labels, np.random.default_rng(seed))
            assert {torch.from_numpy(array).shape[:2] for array in (*pixels, *views)} == {crop}


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.6, 2.0])
def test_image_and_mask_stay_aligned(factor: float) -> None:
    image, labels = pair(200, 260)
    crop, crop_labels = random_scaled_crop(image, labels, factor, (96, 96), np.random.default_rng(3))
    inside = crop_labels != IGNORE
    agree = np.abs(crop[:, :, 0].astype(int) - 10 * crop_labels.astype(int)) <= 2
    assert agree[inside].mean() > 0.7  # all but the blended borders of blocks


def test_a_smaller_image_is_filled_and_the_filling_ignored() -> None:
    image, labels = pair(20, 30)
    crop, crop_labels = random_scaled_crop(image, labels, 1.0, (64, 64), np.random.default_rng(0))
    assert (crop_labels != IGNORE).sum() == 20 * 30
    assert len(np.unique(crop[crop_labels == IGNORE])) == 1


def test_equal_generators_give_equal_crops_and_others_differ() -> None:
    image, labels = pair(100, 100)
    first, same, other = (
        augmented(image, labels, np.random.default_rng(seed), crop=(64, 64), **EVERYTHING)[0] for seed in (5, 5, 6)
    )
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_scale_is_drawn_evenly_over_halving_and_doubling() -> None:
    rng = np.random.default_rng(0)
    image, labels = pair(64, 64)
    sizes = []
    for _ in range(400):
        _, crop_labels = augmented(image, labels, rng, crop=(200, 200), color=0)
        sizes.append(np.sqrt((crop_labels != IGNORE).sum()) / 64)
    assert min(sizes) >= 0.49
    assert max(sizes) <= 2.01
    assert np.mean(np.array(sizes) < 1) == pytest.approx(0.5, abs=0.08)


factors = st.floats(0.5, 1.5)


@given(factors, factors, factors, st.sampled_from([1, 2, 3, 4, 6, 13]), st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=60, deadline=None)
def test_color_of_light_equals_its_definition(
    brightness: float, contrast: float, saturation: float, channels: int, dtype: type
) -> None:
    largest = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(0, largest, (9, 7, channels), dtype, endpoint=True)
    image[..., 0] //= 50  # bands may differ much
    values = image.astype(float) * brightness
    mean = values.mean() if channels == 3 else values.mean(axis=(0, 1))
    values = (values - mean) * contrast + mean
    if channels == 3:
        grey = values.mean(axis=2, keepdims=True)
        values = (values - grey) * saturation + grey
    varied = jitter_color(image, brightness, contrast, saturation)
    assert varied.dtype == dtype
    assert np.abs(varied - np.clip(values, 0, largest)).max() < 1


@given(factors, factors, factors, st.sampled_from([1, 3, 6]), st.sampled_from([np.int16, np.float32]))
@settings(max_examples=60, deadline=None)
def test_color_of_measurements_equals_its_definition(
    brightness: float, contrast: float, saturation: float, channels: int, dtype: type
) -> None:
    image = np.random.default_rng(0).normal(-12000, 9000, (9, 7, channels)).clip(-32768, 32767).astype(dtype)
    mean, deviation = image.mean(axis=(0, 1), dtype=float), image.std(axis=(0, 1), dtype=float)
    expected = mean + contrast * (image - mean) + 2 * (brightness - 1) * deviation
    if dtype == np.int16:
        expected = expected.clip(-32768, 32767)
    varied = jitter_color(image, brightness, contrast, saturation)
    assert varied.dtype == dtype
    assert np.abs(varied - expected).max() < 1


@given(st.floats(-300, 300), factors, factors)
@settings(max_examples=20, deadline=None)
def test_color_of_measurements_does_not_hang_on_where_their_zero_lies(
    offset: float, brightness: float, contrast: float
) -> None:
    image = np.random.default_rng(0).normal(0, 5, (9, 7, 2)).astype(np.float32)
    moved = jitter_color(image + np.float32(offset), brightness, contrast, 1)
    assert np.allclose(moved - offset, jitter_color(image, brightness, contrast, 1), atol=1e-3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4, 5, 13])
def test_shrinking_averages_areas_of_any_type_and_number_of_channels(dtype: type, channels: int) -> None:
    rng = np.random.default_rng(0)
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype != np.float32 else (-1000, 1000)
    image = rng.integers(low, high, (24, 36, channels)).astype(dtype)
    expected = image.astype(float).reshape(8, 3, 12, 3, channels).mean(axis=(1, 3))
    assert np.abs(resize(image, (12, 8), interpolation=cv2.INTER_AREA) - expected).max() <= 0.51


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_every_channel_is_filled_with_its_own_mean(dtype: type) -> None:
    image = np.stack([np.full((20, 30), value, dtype) for value in (3, 90, 7, 12, 50, 1)], axis=2)
    crop, labels = random_scaled_crop(image, np.zeros((20, 30), np.uint8), 1.0, (64, 64), np.random.default_rng(0))
    assert (labels == IGNORE).any()
    assert (crop == image[0, 0]).all()


def test_a_crop_towards_rare_classes_shows_the_class_that_was_drawn() -> None:
    labels = np.zeros((60, 90), np.uint8)
    labels[7, 80] = 1  # a single pixel
    labels[:, :5] = IGNORE
    image = np.zeros((60, 90, 3), np.uint8)
    given_ = {"crop": (16, 24), "scale": (1.0, 1.0), "pixels": (10**9, 1)}

    def times_shown(share: float) -> int:
        crops = (
            augmented(image, labels, np.random.default_rng(seed), rare_class_crops=share, **given_)[1]
            for seed in range(40)
        )
        return sum(bool((crop == 1).any()) for crop in crops)

    assert times_shown(0.0) < 10
    assert times_shown(1.0) == 40


def test_the_share_of_crops_towards_rare_classes_is_that_asked_for() -> None:
    labels = np.zeros((4, 4), np.uint8)
    drawn_in = partial(draw_rare_pixel, rng=np.random.default_rng(0), share=0.3, pixels=[16])
    assert 250 < sum(drawn_in(labels) is not None for _ in range(1000)) < 350
    nothing = np.full((4, 4), IGNORE, np.uint8)
    assert all(drawn_in(nothing) is None for _ in range(20))


@given(st.integers(1, 70), st.integers(1, 70), st.floats(0.3, 3), st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_the_shown_pixel_lies_in_the_crop(height: int, width: int, factor: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    row, column = int(rng.integers(height)), int(rng.integers(width))
    image = np.zeros((height, width, 1), np.uint8)
    image[row, column] = 255
    labels = np.zeros((height, width), np.uint8)
    crop, _ = random_scaled_crop(image, labels, factor, (32, 32), rng, shown=(row, column))
    assert factor < 0.5 or crop.max() > 0
