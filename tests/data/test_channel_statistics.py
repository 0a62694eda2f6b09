from fractions import Fraction

import numpy as np
import pytest

from pyramidseg.data.channel_statistics import ChannelSums, channel_sums


def joined(images, absent=None) -> list:
    totals: list[ChannelSums] = []
    for index, image in enumerate(images):
        sums = channel_sums(image, None if absent is None else absent[index])
        totals = totals or [ChannelSums(band.dtype) for band in sums]
        for total, band in zip(totals, sums, strict=True):
            total.add(band)
    return [total.statistics() for total in totals]


def draw(dtype, *, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    sizes = [(7, 5), (1, 1), (4, 9)]
    if np.issubdtype(dtype, np.floating):
        return [rng.normal(1e4, 1e-1, (*size, channels)).astype(dtype) for size in sizes]
    limits = np.iinfo(dtype)
    return [rng.integers(limits.min, limits.max, (*size, channels), dtype, endpoint=True) for size in sizes]


@pytest.mark.parametrize(("dtype", "unit"), [(np.uint8, 255), (np.uint16, 65535), (np.int16, 1)])
@pytest.mark.parametrize("channels", [1, 3, 6])
def test_integers_are_summed_exactly(dtype, unit: int, channels: int) -> None:
    images = draw(dtype, channels=channels)
    for band, found in enumerate(joined(images)):
        values = [Fraction(int(value)) for image in images for value in image[..., band].ravel()]
        mean = sum(values) / len(values)
        variance = sum((value - mean) ** 2 for value in values) / len(values)
        assert found.count == len(values)
        assert found.mean == pytest.approx(float(mean / unit), rel=1e-15, abs=1e-18)
        assert found.deviation == pytest.approx(float(variance) ** 0.5 / unit, rel=1e-15)
        assert (found.low, found.high) == (min(values), max(values))


def test_floats_agree_with_numpy_in_float64() -> None:
    """The deviation is a ten-millionth of the mean: sums of squares in float32, or of raw values, would lose it."""
    images = draw(np.float32)
    for band, found in enumerate(joined(images)):
        values = np.concatenate([image[..., band].ravel() for image in images]).astype(np.float64)
        assert found.mean == pytest.approx(values.mean(), rel=1e-14)
        assert found.deviation == pytest.approx(values.std(), rel=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_absent_values_do_not_count(dtype) -> None:
    images = draw(dtype)
    absent = [np.random.default_rng(1).random(image.shape) < 0.4 for image in images]
    for band, found in enumerate(joined(images, absent)):
        values = np.concatenate(
            [image[..., band][~holes[..., band]] for image, holes in zip(images, absent, strict=True)]
        ).astype(np.float64)
        unit = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
        assert found.count == len(values)
        assert found.mean == pytest.approx(values.mean() / unit)
        assert found.deviation == pytest.approx(values.std() / unit)


def test_nothing_but_holes_has_no_figures() -> None:
    image = np.zeros((2, 2, 1), np.uint8)
    (found,) = joined([image], [np.ones_like(image, np.bool_)])
    assert found.count == 0
    assert np.isnan([found.mean, found.deviation, found.low, found.high]).all()


def test_order_of_the_images_changes_nothing_for_integers() -> None:
    images = draw(np.uint16)
    assert joined(images) == joined(images[::-1])


def test_counts_are_exact_beyond_the_integers_of_float32() -> None:
    """OpenCV counts in float32, where 2**24 + 1 is 2**24."""
    image = np.full((4100, 4100, 1), 9, np.uint8)
    (found,) = joined([image])
    assert found.count == 4100**2 > 2**24
