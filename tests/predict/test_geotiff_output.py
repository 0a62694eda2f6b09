"""GeoTIFF outputs have the georeference of their images."""

from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from made_backends import Brightness
from made_geo import TRANSFORM, UTM, write_image
from pyramidseg.base.errors import OutputError
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor


@pytest.fixture
def image(tmp_path: Path) -> Path:
    values = np.zeros((30, 40, 3), np.uint8)
    values[:, 25:] = 255
    return write_image(tmp_path / "images" / "a.tif", values, photometric="RGB")


def test_a_geotiff_has_the_georeference_of_its_image_and_the_colours_of_its_classes(
    image: Path, tmp_path: Path
) -> None:
    predictor = Predictor(Brightness())
    summary = predict_files(predictor, [image], tmp_path / "out", save=("geotiff",))
    assert summary.last is not None
    assert summary.last["outputs"] == {"mask": "a.png", "geotiff": "a_mask.tif"}
    with rasterio.open(tmp_path / "out" / "a_mask.tif") as file:
        labels = file.read(1)
        assert file.crs == rasterio.crs.CRS.from_string(UTM)
        assert tuple(file.transform)[:6] == TRANSFORM
        assert file.colormap(1)[1][:3] == predictor.classes.colors[1]
        assert [file.tags()[f"class_{index}"] for index in range(3)] == list(predictor.classes.names)
    assert np.array_equal(labels, np.asarray(Image.open(tmp_path / "out" / "a.png")))
    assert (labels[:, 25:] == 1).all() and not labels[:, :25].any()


def test_images_without_a_georeference_are_entries_with_their_error(image: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(image.parent / "b.png")
    summary = predict_files(Predictor(Brightness()), [image.parent], tmp_path / "out", save=("geotiff",))
    (failed,) = summary.failed
    assert failed["error"].startswith(f"{image.parent / 'b.png'}: has no georeference")
    assert (tmp_path / "out" / "a_mask.tif").is_file() and not (tmp_path / "out" / "b.png").exists()


def test_an_unreadable_image_does_not_stop_the_others(image: Path, tmp_path: Path) -> None:
    (image.parent / "b.tif").write_bytes(image.read_bytes()[:300])
    summary = predict_files(Predictor(Brightness()), [image.parent], tmp_path / "out", save=("geotiff",))
    assert [Path(entry["image"]).name for entry in summary.failed] == ["b.tif"]
    assert (tmp_path / "out" / "a_mask.tif").is_file()


def test_only_our_own_geotiff_is_replaced(image: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for _ in range(2):
        predict_files(Predictor(Brightness()), [image], out, save=("geotiff",))
    write_image(out / "a_mask.tif", np.zeros((30, 40, 1), np.uint8))
    with pytest.raises(OutputError, match=r"a_mask\.tif: exists and was not written by pyramidseg"):
        predict_files(Predictor(Brightness()), [image], out, save=("geotiff",))
