import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError
from pyramidseg.images.georeference import Georeference
from pyramidseg.predict import segmentation as segmentation_module
from pyramidseg.predict.outputs.output_writers import WRITERS, output_writers
from pyramidseg.predict.outputs.ownership import is_ours
from pyramidseg.predict.outputs.polygon_layers import EXACT_POLYGONS, PolygonOptions
from pyramidseg.predict.segmentation import Segmentation

CLASSES = Classes.from_names(["sky", "road", "car"])
GEOREFERENCE = Georeference("", (0.5, 0.0, 733601.0, 0.0, -0.5, 3725139.0))
IMAGE = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)


@pytest.fixture
def segmentation():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), (5, 7)).transpose(2, 0, 1).astype(np.float32)
    labels = probabilities.argmax(0).astype(np.uint8)
    return Segmentation(labels, CLASSES, probabilities.max(0), probabilities, GEOREFERENCE)


@pytest.fixture
def written(segmentation, tmp_path):
    for writer in WRITERS.values():
        writer.write(tmp_path / f"x{writer.suffix}", segmentation, IMAGE)
    return {name: tmp_path / f"x{writer.suffix}" for name, writer in WRITERS.items()}


def test_a_mask_holds_the_class_ids(written, segmentation):
    with Image.open(written["mask"]) as mask:
        assert mask.mode == "L"
        assert np.array_equal(np.asarray(mask), segmentation.labels)


def test_pictures_hold_colours_overlay_and_confidence(written, segmentation):
    expected = {
        "color": segmentation.colorize(),
        "overlay": segmentation.overlay(IMAGE),
        "confidence": (255 * segmentation.confidence).round().astype(np.uint8),
    }
    for name, pixels in expected.items():
        with Image.open(written[name]) as picture:
            assert np.array_equal(np.asarray(picture), pixels)


def test_probabilities_are_saved_with_the_class_names(written, segmentation):
    with np.load(written["probabilities"]) as archive:
        assert archive["classes"].tolist() == list(CLASSES.names)
        assert archive["probabilities"].dtype == np.float16
        np.testing.assert_allclose(archive["probabilities"], segmentation.probabilities, atol=1e-3)


def test_every_output_is_recognised_as_ours(written):
    assert all(is_ours(path) for path in written.values())


@pytest.mark.parametrize("name", ["mask", "color"])
def test_a_label_map_beyond_the_limit_of_pillow_is_recognised(written, name):
    content = bytearray(written[name].read_bytes())
    content[16:24] = struct.pack(">II", 15_000, 15_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    written[name].write_bytes(content)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(written[name])
    assert is_ours(written[name])


def test_a_vast_foreign_picture_is_not_ours(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "theirs.bmp")
    content = bytearray((tmp_path / "theirs.bmp").read_bytes())
    content[18:26] = struct.pack("<ii", 15_000, 15_000)
    (tmp_path / "theirs.png").write_bytes(content)
    assert not is_ours(tmp_path / "theirs.png")


def test_no_temporary_file_is_left(written, tmp_path):
    assert sorted(tmp_path.iterdir()) == sorted(written.values())


def test_a_foreign_picture_is_not_ours(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "theirs.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert not is_ours(tmp_path / "theirs.png")
    assert not is_ours(tmp_path / "broken.png")


def test_confidence_is_written_in_blocks_of_the_same_values(segmentation, tmp_path, monkeypatch):
    monkeypatch.setattr(segmentation_module, "BLOCK_PIXELS", 8)
    WRITERS["confidence"].write(tmp_path / "x.png", segmentation, IMAGE)
    with Image.open(tmp_path / "x.png") as picture:
        assert np.array_equal(np.asarray(picture), (255 * segmentation.confidence).round().astype(np.uint8))


@pytest.mark.parametrize(
    ("text", "ours"), [('{"pyramidseg": "0.1"}', True), ('{"other": 1}', False), ("[]", False), ("no JSON", False)]
)
def test_json_is_recognised_by_its_key(tmp_path, text, ours):
    (tmp_path / "x.json").write_text(text)
    assert is_ours(tmp_path / "x.json") is ours


def test_output_names_start_with_the_mask_and_have_no_duplicates():
    writers, formats = output_writers(["overlay", "coco", "mask", "overlay", "coco"], EXACT_POLYGONS)
    assert [*writers] == ["mask", "overlay"] and formats == ("coco",)


@pytest.mark.parametrize("save", ["mask", "coco", "overlay"])
def test_options_of_polygons_without_effect_are_refused(save):
    with pytest.raises(ConfigError, match="change nothing that is saved; add polygons to `save`"):
        output_writers([save], PolygonOptions(simplify_px=1.0))
    with pytest.raises(ConfigError, match="change nothing that is saved"):
        output_writers(["labelme"], PolygonOptions(min_area_px=9))
    output_writers(["labelme"], PolygonOptions(simplify_px=1.0))


@pytest.mark.parametrize(("option", "value"), [("simplify_px", -1), ("min_area_px", float("nan")), ("format", "shp")])
def test_impossible_options_of_polygons_are_refused(option, value):
    with pytest.raises(ConfigError, match=r"must be a number of pixels|polygon format shp: cannot be written"):
        PolygonOptions(**{option: value})


def test_an_unknown_output_name_is_rejected_with_the_nearest():
    with pytest.raises(ConfigError, match=r"`save=overlays`: unknown output; did you mean 'overlay'"):
        output_writers(["overlays"], EXACT_POLYGONS)


@pytest.mark.parametrize("name", WRITERS)
def test_each_writer_states_what_it_needs(segmentation, tmp_path, name):
    """A segmentation with nothing else is enough."""
    given = {need: getattr(segmentation, need) for need in WRITERS[name].needs}
    path = tmp_path / f"x{WRITERS[name].suffix}"
    WRITERS[name].write(path, Segmentation(segmentation.labels, CLASSES, **given), IMAGE)
    assert path.is_file()
