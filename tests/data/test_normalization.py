"""The training images' own mean and deviation: exact, without holes, in the model's units, and only where needed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pyramidseg.base.errors import DataError
from pyramidseg.base.setting_types import Channels
from pyramidseg.data.normalization import measure_normalization, uses_dataset_statistics
from pyramidseg.data.records import Record
from pyramidseg.images.decode import read_image
from pyramidseg.model.segmenter import Segmenter

UNIT = {np.uint8: 255, np.uint16: 65535, np.int16: 1, np.float32: 1}


def write(folder: Path, images: list[NDArray[Any]], *, nodata: str | None = None) -> list[Record]:
    tags = [(42113, 2, len(nodata) + 1, nodata, True)] if nodata is not None else []
    records = []
    for index, image in enumerate(images):
        path = folder / f"{index}.tif"
        tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig", metadata=None, extratags=tags)
        records.append(Record(str(index), path))
    return records


def draw(channels: int, dtype: Any, seed: int = 0) -> list[NDArray[Any]]:
    rng = np.random.default_rng(seed)
    sizes = [(5, 7), (9, 4), (1, 1), (16, 16)]
    return [rng.normal(900 if dtype != np.uint8 else 120, 30, (*size, channels)).astype(dtype) for size in sizes]


@given(st.sampled_from(list(UNIT)), st.integers(2, 6), st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_statistics_equal_those_of_all_pixels_at_once(
    tmp_path_factory: pytest.TempPathFactory, dtype: Any, channels: int, seed: int
) -> None:
    images = draw(channels, dtype, seed)
    found = measure_normalization(write(tmp_path_factory.mktemp("images"), images), channels=channels)
    pixels = np.concatenate([image.reshape(-1, channels) for image in images]).astype(np.float64) / UNIT[dtype]
    assert found.mean == pytest.approx(pixels.mean(axis=0), rel=1e-12)
    assert found.std == pytest.approx(pixels.std(axis=0), rel=1e-9)
    assert found.constant == ()


@pytest.mark.parametrize(("dtype", "nodata"), [(np.uint16, "0"), (np.int16, "-9999"), (np.float32, "nan")])
def test_holes_do_not_count(tmp_path: Path, dtype: Any, nodata: str) -> None:
    images = draw(3, dtype)
    whole = np.concatenate([image.reshape(-1, 3) for image in images]).astype(np.float64) / UNIT[dtype]
    holed = [np.concatenate([image, np.full((3, *image.shape[1:]), float(nodata)).astype(dtype)]) for image in images]
    found = measure_normalization(write(tmp_path, holed, nodata=nodata), channels=3)
    assert found.mean == pytest.approx(whole.mean(axis=0), rel=1e-12)
    assert found.std == pytest.approx(whole.std(axis=0), rel=1e-9)


def test_statistics_are_those_of_the_chosen_bands(tmp_path: Path) -> None:
    records = write(tmp_path, draw(5, np.uint16))
    everything, chosen = measure_normalization(records, channels=5), measure_normalization(records, channels=(4, 2))
    assert chosen.mean == (everything.mean[3], everything.mean[1])
    assert chosen.std == (everything.std[3], everything.std[1])


@pytest.mark.parametrize("dtype", list(UNIT))
def test_a_model_with_them_sees_values_of_mean_0_and_deviation_1(tmp_path: Path, dtype: Any) -> None:
    records = write(tmp_path, draw(4, dtype))
    found = measure_normalization(records, channels=4)
    model = Segmenter(encoder="test_resnet", encoder_weights="none", num_classes=2, in_channels=4)
    model.set_normalization(found.mean, found.std)
    seen = torch.cat(
        [
            model.normalize(torch.from_numpy(read_image(record.image, channels=4)).permute(2, 0, 1)[None]).flatten(2)
            for record in records
        ],
        dim=2,
    )
    assert torch.allclose(seen.mean(dim=2), torch.zeros(4), atol=1e-4)
    assert torch.allclose(seen.std(dim=2, correction=0), torch.ones(4), atol=1e-4)


def test_a_channel_that_never_varies_is_divided_by_1_and_named(tmp_path: Path) -> None:
    images = draw(3, np.int16)
    for image in images:
        image[..., 1] = 7
    found = measure_normalization(write(tmp_path, images), channels=3)
    assert (found.mean[1], found.std[1], found.constant) == (7, 1, (1,))
    assert "channel 2 is constant" in str(found)


def test_a_channel_of_holes_is_refused(tmp_path: Path) -> None:
    images = draw(3, np.float32)
    for image in images:
        image[..., 2] = np.nan
    with pytest.raises(DataError, match=r"channel 3 has no data in any training image; leave it out \(data\.bands\)"):
        measure_normalization(write(tmp_path, images), channels=3)


@pytest.mark.parametrize(
    ("dtype", "channels", "wanted"),
    [
        ("uint8", 3, False),
        ("uint8", 1, False),
        ("uint8", (4, 3, 2), False),
        ("uint8", 4, True),
        ("uint16", 3, True),
        ("uint16", 1, True),
        ("int16", 3, True),
        ("float32", 1, True),
        ("float32", (1, 2), True),
    ],
)
def test_by_default_only_8_bit_images_of_1_or_3_channels_go_by_the_encoder(
    dtype: str, channels: Channels, wanted: bool
) -> None:
    assert uses_dataset_statistics("auto", dtypes=[dtype], channels=channels, pretrained=False) == wanted
    assert not uses_dataset_statistics("auto", dtypes=[dtype], channels=channels, pretrained=True)
    for pretrained in (False, True):
        assert uses_dataset_statistics("dataset", dtypes=[dtype], channels=channels, pretrained=pretrained)
        assert not uses_dataset_statistics("encoder", dtypes=[dtype], channels=channels, pretrained=pretrained)
