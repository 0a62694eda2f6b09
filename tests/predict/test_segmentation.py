import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from pyramidseg.backends import LogitGeometry
from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import DataError
from pyramidseg.predict import segmentation as segmentation_module
from pyramidseg.predict.segmentation import (
    OutputOptions,
    RowBlock,
    Segmentation,
    segment_batch,
    segment_row_blocks,
)
from pyramidseg.predict.upsampling import bilinear_axis

CLASSES = Classes.unnamed(5)
COARSE = torch.randn(5, 9, 8, generator=torch.Generator().manual_seed(0))
EVERYTHING = OutputOptions(confidence=True, probabilities=True)
GEOMETRIES = [LogitGeometry(4, align_corners=False), LogitGeometry(4, align_corners=True), LogitGeometry(1, False)]


def segment_coarse(coarse, *arguments):
    return segment_batch(coarse[None], *arguments)[0]


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
def test_all_outputs_equal_those_of_the_full_size_logits(geometry):
    height, width = size_of(geometry)
    confidence, labels = (full := geometry.upsample(COARSE[None], height, width)[0].softmax(0)).max(0)
    found = segment_coarse(COARSE, height, width, geometry, CLASSES, EVERYTHING)
    assert_equal(found, Segmentation(labels.byte().numpy(), CLASSES, confidence.numpy(), full.numpy()))
    assert found.labels.dtype == np.uint8 and found.confidence.dtype == found.probabilities.dtype == np.float32


@pytest.mark.parametrize(
    "options", [OutputOptions(), OutputOptions(confidence=True), OutputOptions(probabilities=True)]
)
def test_only_requested_outputs_are_computed(options):
    geometry = GEOMETRIES[0]
    found = segment_coarse(COARSE, 33, 30, geometry, CLASSES, options)
    assert (found.confidence is not None, found.probabilities is not None) == options
    np.testing.assert_array_equal(found.labels, segment_coarse(COARSE, 33, 30, geometry, CLASSES, EVERYTHING).labels)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("options", [OutputOptions(), EVERYTHING])
def test_row_blocks_of_logits_equal_the_whole_image(geometry, options):
    height, width = size_of(geometry)
    blocks = [RowBlock(first, COARSE[:, first:end]) for first, end in ((0, 3), (2, 4), (3, 8), (7, 9))]
    rows, columns = bilinear_axis(9, height, geometry), bilinear_axis(8, width, geometry)
    found = segment_row_blocks(blocks, rows, columns, geometry, CLASSES, options)
    assert_equal(found, segment_coarse(COARSE, height, width, geometry, CLASSES, options))


def test_blocks_below_the_crop_hold_no_pixel():
    rows, columns = bilinear_axis(9, 5, GEOMETRIES[0]), bilinear_axis(8, 32, GEOMETRIES[0])
    blocks = [RowBlock(0, COARSE[:, :4]), RowBlock(3, COARSE[:, 3:])]
    found = segment_row_blocks(blocks, rows, columns, GEOMETRIES[0], CLASSES, OutputOptions())
    assert_equal(found, segment_coarse(COARSE, 5, 32, GEOMETRIES[0], CLASSES, OutputOptions()))


def test_result_does_not_depend_on_the_rows_at_a_time(monkeypatch):
    whole = segment_coarse(COARSE, 33, 30, GEOMETRIES[0], CLASSES, EVERYTHING)
    monkeypatch.setattr(segmentation_module, "FULL_VALUES", 2 * 5 * 30)
    assert_equal(segment_coarse(COARSE, 33, 30, GEOMETRIES[0], CLASSES, EVERYTHING), whole)


@pytest.mark.parametrize("options", [OutputOptions(), EVERYTHING])
def test_a_batch_equals_its_single_images(options):
    coarse = torch.stack((COARSE, COARSE.flip(0), COARSE.flip(1)))
    found = segment_batch(coarse, 33, 30, GEOMETRIES[0], CLASSES, options)
    for own, logits in zip(found, coarse, strict=True):
        assert_equal(own, segment_coarse(logits, 33, 30, GEOMETRIES[0], CLASSES, options))


def peak_bytes(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class TestSegmentation:
    CLASSES = Classes(("sky", "road", "car"), ((10, 20, 30), (100, 110, 120), (200, 0, 0)))

    def segmentation(self):
        return Segmentation(np.array([[1, 1], [1, 0]], np.uint8), self.CLASSES)

    def test_shares_list_the_classes_found_largest_first(self):
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

    def test_overlay_takes_grey_as_prediction_does(self):
        segmentation, grey = self.segmentation(), np.full((2, 2), 50, np.uint8)
        assert np.array_equal(segmentation.overlay(grey), segmentation.overlay(grey[..., None]))

    def test_overlay_takes_images_of_pil(self):
        picture = np.full((2, 2, 3), 50, np.uint8)
        assert np.array_equal(
            self.segmentation().overlay(Image.fromarray(picture)), self.segmentation().overlay(picture)
        )

    @pytest.mark.parametrize("image", [np.zeros((3, 2, 3), np.uint8), "image.png", None])
    def test_overlay_on_an_image_of_another_size_is_rejected(self, image):
        with pytest.raises(DataError, match=r"need an image \(H, W, C\) of this size"):
            self.segmentation().overlay(image)

    def test_row_blocks_of_pictures_equal_the_whole_picture(self, monkeypatch):
        rng = np.random.default_rng(0)
        labels, image = rng.integers(0, 3, (7, 5), np.uint8), rng.integers(0, 256, (7, 5, 3), np.uint8)
        segmentation = Segmentation(labels, self.CLASSES)
        monkeypatch.setattr(segmentation_module, "BLOCK_PIXELS", 11)  # two rows
        colors = self.CLASSES.palette()[labels]
        assert np.array_equal(segmentation.colorize(), colors)
        blend = np.float32(0.7) * image.astype(np.float32) + np.float32(0.3) * colors.astype(np.float32)
        assert np.array_equal(segmentation.overlay(image, alpha=0.3), blend.round().astype(np.uint8))
        assert segmentation.shares() == {
            self.CLASSES.names[index]: count / 35
            for count, index in sorted(((int((labels == index).sum()), index) for index in range(3)), reverse=True)
        }

    def test_extra_memory_does_not_grow_with_the_image(self, monkeypatch):
        monkeypatch.setattr(segmentation_module, "BLOCK_PIXELS", 2**14)
        pixels = 2**20
        segmentation = Segmentation(np.ones((2**10, 2**10), np.uint8), self.CLASSES)
        image = np.zeros((2**10, 2**10, 3), np.uint8)
        assert peak_bytes(segmentation.shares) < pixels
        assert peak_bytes(segmentation.colorize) < 4 * pixels
        assert peak_bytes(lambda: segmentation.overlay(image)) < 4 * pixels
