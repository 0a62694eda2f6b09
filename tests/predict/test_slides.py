"""Levels of slides: pyramid TIFF files, which OpenSlide opens, and a stand-in for what only scanners write."""

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from numpy.typing import NDArray
from PIL import Image

from made_scenes import mask_of, predictor, smooth
from pyramidseg.cli.flags import in_options
from pyramidseg.cli.main import build_parser, option_names
from pyramidseg.images.open_scene import open_scene
from pyramidseg.images.scene import SceneOptions
from pyramidseg.images.slides import SlideScene
from pyramidseg.predict.predict_files import predict_files

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("openslide") is None, reason="needs OpenSlide"),
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]

LEVELS = (1, 2, 4)


@pytest.fixture
def values() -> NDArray[np.uint8]:
    return smooth(512, 768)


@pytest.fixture
def slide(values: NDArray[np.uint8], tmp_path: Path) -> Path:
    path = tmp_path / "a.svs"  # by its name always a slide; by its content a pyramid without a scanner's mark
    with tifffile.TiffWriter(path) as file:
        for scale in LEVELS:
            file.write(
                values[::scale, ::scale],
                tile=(128, 128),
                photometric="rgb",
                subfiletype=int(scale > 1),
                resolution=(40000 / scale, 40000 / scale),
                resolutionunit="CENTIMETER",
            )
    return path


def test_a_level_has_to_be_chosen_and_the_proposal_leads_to_it(
    slide: Path, values: NDArray[np.uint8], tmp_path: Path
) -> None:
    (failed,) = predict_files(predictor(), [slide], tmp_path / "out").failed
    message = in_options(failed["error"], option_names("predict"))
    proposed = re.findall(r"(--level \d+) \((\d+) x (\d+) pixels", message)
    assert [(int(width), int(height)) for _, width, height in proposed] == [(768, 512), (384, 256), (192, 128)]
    for number, (option, _, _) in enumerate(proposed):
        line = ["predict", "model", str(slide), "--out", "o", *shlex.split(option)]
        level = build_parser()[0].parse_args(line).level
        assert level == number
        out = tmp_path / str(level)
        summary = predict_files(predictor(), [slide], out, scenes=SceneOptions(level=level))
        assert not summary.failed
        scale = LEVELS[level]
        expected = predictor(tile_px="whole", overlap_px=None).predict(values[::scale, ::scale].copy()).labels
        assert np.array_equal(mask_of(out), expected)
        with rasterio.open(out / "a_mask.tif") as file:
            assert (file.tags()["slide_level"], float(file.tags()["slide_downsample"])) == (str(level), scale)


def test_levels_are_found_by_their_resolution(slide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    properties = {"openslide.mpp-x": "0.25"}
    monkeypatch.setattr("openslide.OpenSlide.properties", properties, raising=False)
    for mpp, height in ((0.25, 512), (0.51, 256), (1.0, 128)):
        scene = open_scene(slide, SceneOptions(mpp=mpp))
        assert scene.header.height == height
        scene.close()
    (failed,) = predict_files(predictor(), [slide], tmp_path / "out", scenes=SceneOptions(mpp=0.8)).failed
    assert "`level=1` (384 x 256 pixels, `mpp=0.5`); `level=2` (192 x 128 pixels, `mpp=1`)" in failed["error"]


@pytest.mark.parametrize("cut", [False, True])
def test_the_scanned_area_is_read_alone_on_request(
    cut: bool, slide: Path, values: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    bounds = {"x": 100, "y": 60, "width": 401, "height": 200}
    properties = {f"openslide.bounds-{name}": str(value) for name, value in bounds.items()}
    monkeypatch.setattr("openslide.OpenSlide.properties", properties, raising=False)
    with caplog.at_level("INFO"):
        scene = open_scene(slide, SceneOptions(level=1, scanned_area=cut))
    assert "401 x 200 pixels of level 0 from column 100, row 60" in caplog.text
    pixels, empty = scene.window(slice(10, 20), slice(30, 50), 3)
    scene.close()
    left, top = (50, 30) if cut else (0, 0)
    assert scene.header[:2] == ((100, 200) if cut else (256, 384)) and empty is None
    assert np.array_equal(pixels, values[::2, ::2][top + 10 : top + 20, left + 30 : left + 50])


def test_transparent_areas_have_no_data_and_are_white(slide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    region = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    region.putpixel((1, 0), (10, 20, 30, 255))
    monkeypatch.setattr("openslide.OpenSlide.read_region", lambda self, at, level, size: region)
    scene = open_scene(slide, SceneOptions(level=0))
    pixels, empty = scene.window(slice(0, 2), slice(0, 4), 3)
    scene.close()
    assert empty is not None and empty.sum() == 7 and not empty[0, 1]
    assert pixels[0, 1].tolist() == [10, 20, 30] and (pixels[empty] == 255).all()


def test_a_window_that_cannot_be_read_does_not_spoil_the_others(
    slide: Path, values: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openslide

    read = SlideScene.read

    def sometimes(self: SlideScene, rows: slice, columns: slice) -> Any:
        if rows.start == 0 and columns.start == 0:
            monkeypatch.setattr(SlideScene, "read", read)
            with self.handle():
                raise openslide.OpenSlideError("damaged")
        return read(self, rows, columns)

    monkeypatch.setattr(SlideScene, "read", sometimes)
    (failed,) = predict_files(predictor(), [slide], tmp_path / "out", scenes=SceneOptions(level=0)).failed
    assert "1 of" in failed["error"] and "damaged" in failed["error"]
    expected = predictor(tile_px="whole", overlap_px=None).predict(values).labels
    assert np.array_equal(mask_of(tmp_path / "out")[128:], expected[128:])


def test_files_that_are_not_slides_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "b.ndpi").write_bytes(b"II*\0" + bytes(100))
    (tmp_path / "c.vrt").write_text("<VRTDataset/>")
    (failed, other) = predict_files(predictor(), [tmp_path / "b.ndpi", tmp_path / "c.vrt"], tmp_path / "out").failed
    assert "is not a slide that OpenSlide reads" in failed["error"]
    assert "cannot be read as an image" in other["error"] and "\n" not in other["error"]
    (failed,) = predict_files(predictor(), [tmp_path / "c.vrt"], tmp_path / "out", scenes=SceneOptions(level=1)).failed
    assert failed["error"].endswith("has no levels; leave out `level` and `mpp`")
