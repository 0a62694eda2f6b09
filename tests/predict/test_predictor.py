import struct
import threading
import weakref
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from made_backends import Brightness
from pyramidseg.backends import TorchBackend
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.images.file_checks import MAX_PIXELS
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict import predictor as predictor_module
from pyramidseg.predict.input_images import load_image
from pyramidseg.predict.pipeline import BATCH_PIXELS
from pyramidseg.predict.predictor import COMPUTED_AHEAD, Predictor
from pyramidseg.predict.segmentation import segment_batch


def grey(height, width, value=0):
    return np.full((height, width, 3), value, np.uint8)


def test_a_file_and_its_array_give_the_same(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (21, 34, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    predictor = Predictor(Brightness())
    from_file = predictor.predict(str(tmp_path / "image.png"), confidence=True)
    from_array = predictor.predict(pixels)
    assert np.array_equal(from_file.labels, pixels[..., 0] > 127)
    assert np.array_equal(from_array.labels, from_file.labels)
    assert from_file.labels.dtype == np.uint8 and from_file.confidence.dtype == np.float32
    assert from_array.confidence is None and from_array.probabilities is None


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Segmenter(
        num_classes=3, encoder="test_resnet", encoder_weights="none", coarsest_stride=8, pyramid_channels=16
    ).eval()


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_a_bundle_predicts_as_its_model(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    image = noise(50, 40)
    with torch.inference_mode():
        logits = model(torch.from_numpy(image).permute(2, 0, 1)[None])[0]
    predictor = Predictor(tmp_path / "model.safetensors", device="cpu")
    found = predictor.predict(image, confidence=True, probabilities=True)
    np.testing.assert_allclose(found.probabilities, logits.softmax(0).numpy(), atol=1e-5)
    assert np.array_equal(found.labels, found.probabilities.argmax(0))
    np.testing.assert_allclose(found.confidence, found.probabilities.max(0), atol=1e-6)
    assert np.array_equal(predictor.predict(image).labels, found.labels)


def test_tiles_that_overlap_by_the_receptive_field_give_the_labels_of_the_whole_image(model):
    image = noise(420, 300)
    backend = TorchBackend(model, device="cpu")
    whole = Predictor(backend, tile_px="whole").predict(image, probabilities=True)
    tiled = Predictor(backend, tile_px=256, overlap_px=128)
    (result,) = tiled.predict_results([image], probabilities=True)
    assert result.tiles is not None and result.tiles.margin_px > 0
    np.testing.assert_allclose(result.segmentation.probabilities, whole.probabilities, atol=1e-5)
    assert np.array_equal(result.segmentation.labels, whole.labels)
    assert np.array_equal(tiled.predict(image).labels, whole.labels)


def test_small_images_are_not_tiled(model):
    results = Predictor(model, device="cpu", tile_px=64).predict_results([noise(64, 64), noise(64, 65)])
    assert [result.tiles is not None for result in results] == [False, True]


def test_test_time_augmentation_wraps_the_backend():
    predictor = Predictor(Brightness(), tta=True)
    assert predictor.predict(grey(8, 8, 255)).labels.all()
    assert len(predictor.backend.backend.batches) == 6


def test_results_keep_their_order_and_equal_sizes_share_batches():
    backend = Brightness()
    sizes = [(4, 5)] * 5 + [(6, 5)] + [(4, 5)] * 2
    images = [grey(*size, value=255 * (index % 2)) for index, size in enumerate(sizes)]
    results = list(Predictor(backend).predict_many(images, batch_size=3))
    assert [(result.labels.shape, int(result.labels[0, 0])) for result in results] == [
        (size, index % 2) for index, size in enumerate(sizes)
    ]
    assert [batch[0] for batch in backend.batches] == [3, 3, 1, 1]


def test_batches_are_bounded_in_pixels():
    backend = Brightness()
    side = int(BATCH_PIXELS**0.5)
    list(Predictor(backend).predict_many([grey(side, side // 2)] * 3))
    assert [batch[0] for batch in backend.batches] == [2, 1]


def test_two_thousand_images_take_no_more_memory_than_two_hundred():
    """Counts the images and label maps alive at the same time, by weak references."""

    def most_alive(count):
        references, most = [], 0

        def images():
            for index in range(count):
                image = grey(4, 4 + index % 3)  # three sizes, so that some wait for others of theirs
                references.append(weakref.ref(image))
                yield image

        for result in Predictor(Brightness()).predict_many(images(), batch_size=2):
            references.append(weakref.ref(result.labels))
            references[:] = [reference for reference in references if reference() is not None]
            most = max(most, len(references))
        return most

    bound = 2 * (2 * 2 + 4 * 2 + 2 * 2)  # images and label maps: read ahead, waiting for their size, and in progress
    assert most_alive(200) <= bound
    assert most_alive(2000) <= bound


def test_label_maps_are_made_while_the_model_computes():
    """The second batch is through the model although the label maps of the first one cannot be finished yet."""
    computing = threading.Event()

    class Watched(Brightness):
        def coarse_logits(self, images):
            if self.batches:
                computing.set()
            return super().coarse_logits(images)

    def waiting(*arguments):
        waited.append(computing.wait(timeout=30))
        return segment_batch(*arguments)

    waited = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor_module, "segment_batch", waiting)
        results = list(Predictor(Watched()).predict_many([grey(4, 4), grey(4, 4, 255)], batch_size=1))
    assert waited == [True, True]
    assert [int(result.labels[0, 0]) for result in results] == [0, 1]


def test_the_model_is_at_most_a_few_batches_ahead_of_the_caller():
    backend = Brightness()
    stream = Predictor(backend).predict_many((grey(4, 4) for _ in range(100)), batch_size=1)
    for taken in range(1, 21):
        next(stream)
        assert len(backend.batches) <= taken + COMPUTED_AHEAD + 1
    stream.close()


def test_a_single_image_is_not_copied():
    seen = []

    class Seeing(Brightness):
        def coarse_logits(self, images):
            seen.append(images.data_ptr())
            return super().coarse_logits(images)

    image = grey(4, 4, 255)
    assert Predictor(Seeing()).predict(image).labels.all()
    assert seen == [image.ctypes.data]
    image.flags.writeable = False  # which torch would take with a warning
    assert Predictor(Seeing()).predict(image).labels.all()
    assert Predictor(Seeing(), tile_px=64).predict(np.broadcast_to(image[:1, :1], (70, 70, 3))).labels.all()


def test_an_unreadable_image_becomes_a_result_with_its_error(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    items = [grey(4, 4), tmp_path / "broken.png", grey(4, 4, 255)]
    results = list(Predictor(Brightness()).predict_results(items))
    assert [result.error is None for result in results] == [True, False, True]
    assert results[2].segmentation.labels.all()


def test_predict_many_stops_at_an_unreadable_image(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        list(Predictor(Brightness()).predict_many([tmp_path / "broken.png"]))


def test_stopping_early_leaves_no_thread_behind():
    stream = Predictor(Brightness()).predict_many(grey(4, 4) for _ in range(1000))
    next(stream)
    stream.close()
    assert not pipeline_threads()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_model_leaves_no_thread_behind(error):
    class Interrupted(Brightness):
        def coarse_logits(self, images):
            if len(self.batches) == 3:
                raise error
            return super().coarse_logits(images)

    done = []
    with pytest.raises(error):
        done.extend(Predictor(Interrupted()).predict_many((grey(4, 4) for _ in range(100)), batch_size=1))
    assert not pipeline_threads()


def pipeline_threads():
    return [
        thread for thread in threading.enumerate() if thread.name.startswith(("measure", "decode", "segment", "write"))
    ]


def test_an_error_of_the_image_iterable_is_raised():
    def images():
        yield grey(4, 4)
        raise OSError("the camera is gone")

    with pytest.raises(OSError, match="camera"):
        list(Predictor(Brightness()).predict_many(images()))


def test_images_beyond_the_pixel_limit_are_rejected_by_their_header(tmp_path):
    Image.new("RGB", (1, 1)).save(tmp_path / "vast.png")
    content = bytearray((tmp_path / "vast.png").read_bytes())
    side = int(MAX_PIXELS**0.5) + 1
    content[16:24] = struct.pack(">II", side, side)  # width and height in the header,
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))  # and the checksum over it
    (tmp_path / "vast.png").write_bytes(content)
    first, second = Predictor(Brightness()).predict_results([tmp_path / "vast.png", grey(4, 4)])
    assert "250 million" in str(first.error)
    assert second.error is None


def test_a_pixel_type_that_a_backend_rejects_is_an_error_of_its_images():
    class Picky(Brightness):
        def coarse_logits(self, images):
            if images.dtype != torch.uint8:
                raise DataError("model.onnx: takes uint8 images, got float32")
            return super().coarse_logits(images)

    images = [grey(4, 4), grey(4, 4).astype(np.float32), grey(4, 4)]
    errors = [result.error for result in Predictor(Picky()).predict_results(images)]
    assert [error is None for error in errors] == [True, False, True]
    assert "image: model.onnx: takes uint8" in str(errors[1])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 5), np.uint8), "has 5 channels, but 3 are requested"),
        (np.zeros((4, 4, 4), np.float32), "has 4 channels, but 3 are requested"),
        (np.zeros((2, 4, 4, 3), np.uint8), "one by one"),
        (torch.zeros(4, 4, 3), "has 4 channels, but 3 are requested"),
        (np.zeros((0, 4, 3), np.uint8), "at least one pixel"),
        (np.zeros((4, 4, 3), np.int64), "type int64"),
        (np.full((4, 4, 3), np.nan), "not finite"),
        (np.full((4, 4, 3), 1e300), "not finite in float32"),
        ([[[0, 0, 0]]], "of type list"),
        (None, "of type NoneType"),
    ],
)
def test_arrays_that_are_not_images_are_rejected(image, message):
    with pytest.raises(DataError, match=message):
        Predictor(Brightness()).predict(image)


def test_mirrored_views_of_arrays_are_accepted():
    image = np.concatenate([grey(3, 2, 255), grey(3, 2, 0)], axis=1)
    assert Predictor(Brightness()).predict(image[:, ::-1]).labels[0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32, np.float64])
def test_arrays_of_either_byte_order_are_accepted(dtype):
    image = noise(5, 7).astype(dtype) / (255 if dtype in (np.float32, np.float64) else 1)
    image = image.astype(dtype)
    swapped = image.astype(image.dtype.newbyteorder("S"))
    assert np.array_equal(load_image(swapped, channels=3), load_image(image, channels=3))


def test_a_folder_is_rejected(tmp_path):
    with pytest.raises(DataError, match="a folder, not an image"):
        Predictor(Brightness()).predict(tmp_path)


@pytest.mark.parametrize("path", [str, Path])
def test_predict_many_rejects_a_single_path(path):
    with pytest.raises(DataError, match=r"one\.png: a single image where a list of images is needed; pass a list"):
        list(Predictor(Brightness()).predict_many(path("one.png")))


def test_batch_size_zero_is_rejected():
    with pytest.raises(ConfigError, match="batch_size=0"):
        list(Predictor(Brightness()).predict_many([], batch_size=0))
