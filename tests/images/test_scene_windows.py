"""Windows of scenes are read as the same part of the whole image is: every kind of TIFF file, and its masks."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray

from made_geo import TRANSFORM, write_image
from pyramidseg.base.errors import DataError
from pyramidseg.data.index_masks import read_mask_values
from pyramidseg.images.decode import read_header, read_masked_image
from pyramidseg.images.georeference import read_georeference
from pyramidseg.images.raster_scene import RasterScene
from pyramidseg.images.scene_windows import SceneWindow, scene_of, window_at

H, W = 150, 210
TOP, LEFT, HEIGHT, WIDTH = 37, 64, 80, 101
TILED = {"tiled": True, "blockxsize": 64, "blockysize": 64}


def values(bands: int, dtype: Any, low: int = 0, high: int = 250) -> NDArray[Any]:
    return np.random.default_rng(bands).integers(low, high, (H, W, bands)).astype(dtype)


def window_of(scene: Path) -> Path:
    return SceneWindow(scene, TOP, LEFT, HEIGHT, WIDTH).path


def cut(array: NDArray[Any]) -> NDArray[Any]:
    return array[TOP : TOP + HEIGHT, LEFT : LEFT + WIDTH]


def with_holes(array: NDArray[Any], nodata: float) -> NDArray[Any]:
    array[60:90, 50:120] = nodata
    return array


KINDS: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
    "grey": (values(1, np.uint8), {}),
    "rgb": (values(3, np.uint8), {**TILED, "photometric": "RGB", "compress": "deflate"}),
    "rgb of separate planes": (values(3, np.uint8), {"photometric": "RGB", "interleave": "band"}),
    "rgba": (values(4, np.uint8), {**TILED, "photometric": "RGB", "alpha": "YES"}),
    "rgb and near infrared": (values(4, np.uint8), {"photometric": "RGB", "alpha": "NO"}),
    "four bands": (values(4, np.uint8), {"photometric": "MINISBLACK"}),
    "five bands of uint16": (values(5, np.uint16, high=4000), TILED),
    "rgb of uint16": (values(3, np.uint16, high=65000), {"photometric": "RGB"}),
    "rgba of uint16": (values(4, np.uint16, high=65000), {"photometric": "RGB", "alpha": "YES"}),
    "heights": (with_holes(values(1, np.float32), np.nan), {**TILED, "compress": "lzw"}),
    "int16 with nodata": (with_holes(values(2, np.int16, -50), -9999), {"nodata": -9999}),
    "rgb with nodata 0": (with_holes(values(3, np.uint8, 1), 0), {"photometric": "RGB", "nodata": 0}),
    "nodata beyond the type": (values(3, np.uint8), {"photometric": "RGB"}),
    "float64": (values(2, np.float64), {}),
    "BigTIFF": (values(3, np.uint8), {"photometric": "RGB", "bigtiff": "YES"}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_window_is_the_part_of_the_whole_image(tmp_path: Path, kind: str) -> None:
    array, options = KINDS[kind]
    scene = write_image(tmp_path / "a.tif", array, **options)
    window = window_of(scene)
    assert not window.exists() and scene_of(window) == scene and window_at(scene) is None
    header, whole = read_header(window), read_header(scene)
    assert header == whole._replace(height=HEIGHT, width=WIDTH)
    for channels in {None, whole.channels - whole.alpha, *((1,) if whole.color else ()), (whole.channels,)}:
        part, full = (read_masked_image(path, channels=channels) for path in (window, scene))
        assert part.values.dtype == full.values.dtype
        nodata = np.zeros(full.values.shape, bool) if full.nodata is None else full.nodata
        found = np.zeros(part.values.shape, bool) if part.nodata is None else part.nodata
        np.testing.assert_array_equal(found, cut(nodata))
        np.testing.assert_array_equal(part.values[~found], cut(full.values)[~found])


def test_jpeg_is_decoded_as_prediction_in_windows_does(tmp_path: Path) -> None:
    """Pillow's decoder, which reads whole images, smooths colours otherwise."""
    scene = write_image(tmp_path / "a.tif", values(3, np.uint8), **TILED, photometric="YCBCR", compress="jpeg")
    part = read_masked_image(window_of(scene), channels=3)
    with closing(RasterScene(scene)) as raster:
        decoded, _ = raster.window(slice(TOP, TOP + HEIGHT), slice(LEFT, LEFT + WIDTH), 3)
    np.testing.assert_array_equal(part.values, decoded)


def test_what_an_internal_mask_hides_has_no_data(tmp_path: Path) -> None:
    scene = write_image(tmp_path / "a.tif", values(3, np.uint8), photometric="RGB")
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(scene, "r+") as file:
        shown = np.full((H, W), 255, np.uint8)
        shown[:70] = 0
        file.write_mask(shown)
    image = read_masked_image(window_of(scene), channels=3)
    nodata = image.nodata_in_all_channels()
    assert nodata is not None
    np.testing.assert_array_equal(nodata, cut(shown == 0))


@pytest.mark.parametrize("transform", [TRANSFORM, (0.3, 0.1, 733601.0, 0.1, -0.3, 3725139.0)])
def test_a_window_has_its_own_place_on_the_map(tmp_path: Path, transform: tuple[float, ...]) -> None:
    scene = write_image(tmp_path / "a.tif", values(3, np.uint8), transform=transform)
    whole, part = read_georeference(scene), read_georeference(window_of(scene))
    assert whole is not None and part is not None and part.crs == whole.crs
    corners = np.array([(0.0, 0.0), (WIDTH, HEIGHT)])
    np.testing.assert_allclose(part.to_map(corners), whole.to_map(corners + np.array([LEFT, TOP])), rtol=0, atol=1e-8)


MASKS: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
    "indices": (values(1, np.uint8, high=4), TILED),
    "16 bits": (values(1, np.uint16, high=4), {}),
    "32 bits": (values(1, np.int32, high=4), {}),
    "1 bit": (values(1, np.uint8, high=2), {"nbits": 1}),
    "floats": (values(1, np.float32, high=4), {"compress": "deflate"}),
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_of_windows_have_the_values_of_the_whole(tmp_path: Path, kind: str) -> None:
    array, options = MASKS[kind]
    scene = write_image(tmp_path / "a.tif", array, **options)
    RasterScene(scene, labels=True).close()
    np.testing.assert_array_equal(read_mask_values(window_of(scene)), cut(read_mask_values(scene)))
    np.testing.assert_array_equal(read_mask_values(window_of(scene)), cut(array[..., 0]))


def test_masks_with_a_palette_keep_it(tmp_path: Path) -> None:
    scene = write_image(tmp_path / "a.tif", values(1, np.uint8, high=3))
    with rasterio.open(scene, "r+") as file:
        file.write_colormap(1, {0: (0, 0, 0), 1: (10, 200, 30), 2: (200, 1, 1)})
    RasterScene(scene, labels=True).close()
    assert read_header(window_of(scene)).color
    np.testing.assert_array_equal(
        read_masked_image(window_of(scene), channels=3).values, cut(read_masked_image(scene, channels=3).values)
    )
    np.testing.assert_array_equal(read_mask_values(window_of(scene)), cut(read_mask_values(scene)))


def test_a_damaged_block_is_one_line_that_names_the_window(tmp_path: Path) -> None:
    scene = write_image(tmp_path / "a.tif", values(3, np.uint8), **TILED, compress="deflate")
    data = bytearray(scene.read_bytes())
    data[-9000:] = bytes(9000)
    scene.write_bytes(data)
    with pytest.raises(DataError, match=r"a#y70x64h80w140\.tif: cannot be read as an image"):
        read_masked_image(SceneWindow(scene, 70, 64, 80, 140).path)
