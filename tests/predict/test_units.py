"""The range of a bundle's training images: stored, copied into exports, and checked where images are given."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import pyramidseg as ps
from pyramidseg.backends.metadata import ExportMetadata
from pyramidseg.base.errors import DataError
from pyramidseg.images.value_range import BYTES, ValueRange
from pyramidseg.model.bundle import KIND
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.tensor_files import read_verified, write_tensors
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor

SMALL = {"encoder": "test_resnet", "encoder_weights": "none", "pyramid_channels": 8, "segmentation_channels": 8}
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = Segmenter(**SMALL, num_classes=3)
    torch.nn.init.normal_(model.classifier.weight)
    model.value_range = BYTES
    return model.eval()


@pytest.fixture(scope="module")
def predictor(model):
    return Predictor(model, device="cpu")


def test_a_bundle_keeps_it_and_an_older_one_has_none(model, tmp_path):
    model.save(tmp_path / "new.safetensors")
    assert ps.load_model(tmp_path / "new.safetensors").value_range == BYTES
    tensors, metadata = read_verified(tmp_path / "new.safetensors", kind=KIND)
    assert json.loads(metadata.pop("value_range")) == {"dtype": "uint8", "low": 0, "high": 255}
    write_tensors(tmp_path / "old.safetensors", tensors, metadata)
    assert ps.load_model(tmp_path / "old.safetensors").value_range is None
    floats = PIXELS.astype(np.float32)  # not checked
    assert Predictor(tmp_path / "old.safetensors", device="cpu").predict(floats).labels.shape == (40, 50)


def test_an_export_has_it_too(model):
    metadata = ExportMetadata(
        precision="fp32", input_dtype="uint8", classes=model.classes, settings=model.settings, mean=(0.5,) * 3,
        std=(0.2,) * 3, source={}, value_range=ValueRange("uint16", 3, 4000), resolution_m=0.25,
    )  # fmt: skip
    strings = metadata.to_strings() | {"sha256": "x"}
    assert (
        ExportMetadata.from_strings(strings, Path("m.onnx"), checksum=lambda: "x").value_range == metadata.value_range
    )
    assert ExportMetadata.from_strings(strings, Path("m.onnx"), checksum=lambda: "x").resolution_m == 0.25
    del strings["value_range"], strings["facts"]  # as in older exports
    older = ExportMetadata.from_strings(strings, Path("m.onnx"), checksum=lambda: "x")
    assert older.value_range is None and older.resolution_m is None


@pytest.mark.parametrize(
    "same",
    [PIXELS / 255, (PIXELS / 255).astype(np.float32), PIXELS.astype(np.uint16) * 257, PIXELS.astype(np.float32) / 255],
)
def test_the_same_image_in_other_units_has_the_same_labels(predictor, same):
    expected = predictor.predict(PIXELS).labels
    assert len(np.unique(expected)) > 1
    assert np.mean(predictor.predict(same).labels == expected) > 0.999


@pytest.mark.parametrize("dtype", [np.float32, np.int16, np.float64])
def test_values_of_255_in_other_types_are_refused(predictor, dtype):
    with pytest.raises(DataError, match="divide by 255 or give uint8"):
        predictor.predict(PIXELS.astype(dtype))


def test_a_file_is_an_entry_with_its_error_and_the_others_are_done(predictor, tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", PIXELS.astype(np.float32), photometric="rgb")
    tifffile.imwrite(tmp_path / "c.tif", PIXELS.astype(np.int16), photometric="rgb")
    summary = predict_files(predictor, [tmp_path], tmp_path / "out")
    assert [Path(entry["image"]).name for entry in summary.failed] == ["b.tif", "c.tif"]
    assert all("divide by 255" in entry["error"] for entry in summary.failed)
    expected = predictor.predict(PIXELS).labels
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8, torch.bool, torch.complex64])
def test_tensors_of_unknown_range_are_refused_by_the_network(model, dtype):
    image = torch.from_numpy(PIXELS).permute(2, 0, 1)[None]
    with pytest.raises(DataError, match=r"whose range is unknown: convert .*images\.to\(torch\.uint8\)"):
        model(image.to(dtype))


@pytest.mark.parametrize("given", [torch.uint8, torch.uint16])
def test_normalization_is_computed_in_float32_for_half_models(model, given):
    image = torch.from_numpy(PIXELS).permute(2, 0, 1)[None]
    image = image if given == torch.uint8 else (image.int() * 257).to(torch.uint16)
    half = Segmenter(model.settings, classes=model.classes).half()
    normalized = half.normalize(image)
    assert normalized.dtype == torch.float16 and normalized.isfinite().all()
    torch.testing.assert_close(normalized.float(), model.normalize(image), atol=0.01, rtol=0.01)
