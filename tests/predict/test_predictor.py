import threading
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from pyramidseg.classes import Classes
from pyramidseg.errors import ConfigError, DataError
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predictor import BATCH_PIXELS, Predictor, Segmentation, segmentation_of, viewable


class Brightness:
    """A backend that finds class 1 where a pixel's first channel is above 127; it notes its batches."""

    name = "brightness"
    classes = Classes.named(["dark", "bright"])
    in_channels = 3

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def __call__(self, images):
        self.batches.append(tuple(images.shape))
        unit = 1 if images.is_floating_point() else 255
        bright = images[:, :1].float() / unit - 0.5
        return torch.cat((-bright, bright), dim=1)


def grey(height, width, value=0):
    return np.full((height, width, 3), value, np.uint8)


def test_a_file_and_its_array_give_the_same(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    predictor = Predictor(Brightness())
    from_file, from_array = predictor.predict(str(tmp_path / "image.png")), predictor.predict(pixels)
    assert np.array_equal(from_file.labels, pixels[..., 0] > 127)
    assert np.array_equal(from_array.labels, from_file.labels)
    assert from_file.labels.dtype == np.uint8 and from_file.confidence.dtype == np.float32


def test_a_bundle_predicts_as_its_model(tmp_path):
    model = Segmenter(num_classes=3, encoder="test_resnet", encoder_weights="none", pyramid_channels=16).eval()
    model.save(tmp_path / "model.safetensors")
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    with torch.inference_mode():
        logits = model(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    found = Predictor(tmp_path / "model.safetensors", device="cpu").predict(image, probabilities=True)
    np.testing.assert_allclose(found.probabilities, logits.softmax(0).numpy(), atol=1e-5)
    assert np.array_equal(found.labels, found.probabilities.argmax(0))
    np.testing.assert_allclose(found.confidence, found.probabilities.max(0), atol=1e-6)


def test_test_time_augmentation_wraps_the_backend():
    predictor = Predictor(Brightness(), tta=True)
    assert predictor.predict(grey(8, 8, 255)).labels.all()
    assert len(predictor.backend.backend.batches) == 6


def test_many_keep_their_order_and_batch_equal_neighbours():
    backend = Brightness()
    sizes = [(4, 5)] * 5 + [(6, 5)] + [(4, 5)] * 2
    results = list(Predictor(backend).predict_many([grey(*size) for size in sizes], batch_size=3))
    assert [result.labels.shape for result in results] == sizes
    assert [batch[0] for batch in backend.batches] == [3, 2, 1, 2]


def test_batches_are_bounded_in_pixels():
    backend = Brightness()
    side = int(BATCH_PIXELS**0.5)
    list(Predictor(backend).predict_many([grey(side, side // 2)] * 3))
    assert [batch[0] for batch in backend.batches] == [2, 1]


def test_only_a_few_images_are_held_at_a_time():
    references, most = [], 0

    def images():
        nonlocal most
        for _ in range(200):
            image = grey(4, 4)
            references.append(weakref.ref(image))
            most = max(most, sum(reference() is not None for reference in references))
            yield image

    for _ in Predictor(Brightness()).predict_many(images(), batch_size=2):
        pass
    assert most < 20


def test_an_unreadable_image_is_an_outcome_of_its_own(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    items = [grey(4, 4), tmp_path / "broken.png", grey(4, 4, 255)]
    outcomes = list(Predictor(Brightness()).outcomes(items))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert outcomes[2].segmentation.labels.all()


def test_predict_many_stops_at_an_unreadable_image(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        list(Predictor(Brightness()).predict_many([tmp_path / "broken.png"]))


def test_stopping_early_leaves_no_thread_behind():
    stream = Predictor(Brightness()).predict_many(grey(4, 4) for _ in range(1000))
    next(stream)
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"takes \(H, W, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"takes \(H, W, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.zeros((4, 4, 3), np.int64), "type int64"),
        (np.full((4, 4, 3), np.nan), "not finite"),
    ],
)
def test_arrays_that_are_no_images_are_refused(image, message):
    with pytest.raises(DataError, match=message):
        Predictor(Brightness()).predict(image)


def test_mirrored_views_of_arrays_are_taken():
    image = np.concatenate([grey(3, 2, 255), grey(3, 2, 0)], axis=1)
    assert Predictor(Brightness()).predict(image[:, ::-1]).labels[0].tolist() == [0, 0, 1, 1]


def test_a_batch_of_none_is_refused():
    with pytest.raises(ConfigError, match="batch_size=0"):
        list(Predictor(Brightness()).predict_many([], batch_size=0))


class TestSegmentation:
    CLASSES = Classes(("sky", "road", "car"), ((10, 20, 30), (100, 110, 120), (200, 0, 0)))

    def segmentation(self):
        labels = np.array([[1, 1], [1, 0]], np.uint8)
        return Segmentation(labels, np.ones((2, 2), np.float32), self.CLASSES)

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

    def test_overlay_on_an_image_of_another_size_is_refused(self):
        with pytest.raises(DataError, match="sizes differ"):
            self.segmentation().overlay(np.zeros((3, 2, 3), np.uint8))

    def test_labels_and_confidence_are_the_largest_probability(self):
        logits = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0))
        found = segmentation_of(logits, Classes.numbered(5))
        confidence, labels = logits.softmax(0).max(0)
        assert np.array_equal(found.labels, labels.numpy())
        np.testing.assert_allclose(found.confidence, confidence.numpy(), rtol=1e-5)
        assert found.probabilities is None


@pytest.mark.parametrize(
    ("pixel", "expected"),
    [
        (np.array([1, 2, 3, 4], np.uint8), [1, 2, 3]),
        (np.array([9], np.uint8), [9, 9, 9]),
        (np.array([65535, 257, 0], np.uint16), [255, 1, 0]),
        (np.array([0.0, 0.2, 1.0], np.float32), [0, 51, 255]),
        (np.array([-100, 0, 100], np.int16), [0, 128, 255]),
        (np.array([7.0, 7.0, 7.0], np.float32), [0, 0, 0]),
    ],
)
def test_any_image_can_be_viewed(pixel, expected):
    assert viewable(pixel[None, None])[0, 0].tolist() == expected
