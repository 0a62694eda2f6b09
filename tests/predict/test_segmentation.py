import numpy as np
import pytest
import torch

from pyramidseg.classes import Classes
from pyramidseg.errors import DataError
from pyramidseg.predict import segmentation as segmentation_module
from pyramidseg.predict.backends import LogitGeometry
from pyramidseg.predict.segmentation import Segmentation, Strip, Wanted, segment_coarse, segment_strips
from pyramidseg.predict.upsampling import bilinear_axis

CLASSES = Classes.numbered(5)
COARSE = torch.randn(5, 9, 8, generator=torch.Generator().manual_seed(0))
EVERYTHING = Wanted(confidence=True, probabilities=True)
GEOMETRIES = [LogitGeometry(4, align_corners=False), LogitGeometry(4, align_corners=True), LogitGeometry(1, False)]


def size_of(geometry):
    return 9 * geometry.stride - geometry.stride // 2, 8 * geometry.stride


def assert_equal(found, expected):
    np.testing.assert_array_equal(found.labels, expected.labels)
    for name in ("confidence", "probabilities"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_everything_is_what_the_full_size_logits_give(geometry):
    height, width = size_of(geometry)
    confidence, labels = (full := geometry.upsample(COARSE[None], height, width)[0].softmax(0)).max(0)
    found = segment_coarse(COARSE, height, width, geometry, CLASSES, EVERYTHING)
    assert_equal(found, Segmentation(labels.byte().numpy(), CLASSES, confidence.numpy(), full.numpy()))
    assert found.labels.dtype == np.uint8 and found.confidence.dtype == found.probabilities.dtype == np.float32


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(confidence=True), Wanted(probabilities=True)])
def test_only_what_was_asked_for_is_there(wanted):
    geometry = GEOMETRIES[0]
    found = segment_coarse(COARSE, 33, 30, geometry, CLASSES, wanted)
    assert (found.confidence is not None, found.probabilities is not None) == wanted
    np.testing.assert_array_equal(found.labels, segment_coarse(COARSE, 33, 30, geometry, CLASSES, EVERYTHING).labels)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("wanted", [Wanted(), EVERYTHING])
def test_strips_give_what_the_whole_gives(geometry, wanted):
    height, width = size_of(geometry)
    strips = [Strip(first, COARSE[:, first:end]) for first, end in ((0, 3), (2, 4), (3, 8), (7, 9))]
    rows, columns = bilinear_axis(9, height, geometry), bilinear_axis(8, width, geometry)
    found = segment_strips(strips, rows, columns, geometry, CLASSES, wanted)
    assert_equal(found, segment_coarse(COARSE, height, width, geometry, CLASSES, wanted))


def test_strips_below_the_crop_hold_no_pixel():
    rows, columns = bilinear_axis(9, 5, GEOMETRIES[0]), bilinear_axis(8, 32, GEOMETRIES[0])
    strips = [Strip(0, COARSE[:, :4]), Strip(3, COARSE[:, 3:])]
    found = segment_strips(strips, rows, columns, GEOMETRIES[0], CLASSES, Wanted())
    assert_equal(found, segment_coarse(COARSE, 5, 32, GEOMETRIES[0], CLASSES, Wanted()))


def test_a_few_rows_at_a_time_give_the_same(monkeypatch):
    whole = segment_coarse(COARSE, 33, 30, GEOMETRIES[0], CLASSES, EVERYTHING)
    monkeypatch.setattr(segmentation_module, "FULL_VALUES", 2 * 5 * 30)
    assert_equal(segment_coarse(COARSE, 33, 30, GEOMETRIES[0], CLASSES, EVERYTHING), whole)


class TestSegmentation:
    CLASSES = Classes(("sky", "road", "car"), ((10, 20, 30), (100, 110, 120), (200, 0, 0)))

    def segmentation(self):
        return Segmentation(np.array([[1, 1], [1, 0]], np.uint8), self.CLASSES)

    def test_shares_list_what_was_found_largest_first(self):
        assert list(self.segmentation().shares().items()) == [("road", 0.75), ("sky", 0.25)]

    def test_colours_are_those_of_the_classes(self):
        assert self.segmentation().colorize()[1].tolist() == [[100, 110, 120], [10, 20, 30]]

    def test_overlay_weighs_image_and_colours(self):
        image = np.full((2, 2, 3), 50, np.uint8)
        segmentation = self.segmentation()
        assert np.array_equal(segmentation.overlay(image, alpha=0), image)
        assert np.array_equal(segmentation.overlay(image, alpha=1), segmentation.colorize())
        assert segmentation.overlay(image)[1, 1].tolist() == [30, 35, 40]

    def test_overlay_shows_images_that_fill_little_of_their_range(self):
        dark = np.random.default_rng(0).integers(200, 2000, (*self.segmentation().labels.shape, 4), np.uint16)
        assert np.ptp(self.segmentation().overlay(dark, alpha=0)) > 200

    def test_overlay_on_an_image_of_another_size_is_refused(self):
        with pytest.raises(DataError, match="sizes differ"):
            self.segmentation().overlay(np.zeros((3, 2, 3), np.uint8))
