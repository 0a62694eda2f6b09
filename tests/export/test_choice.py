"""Which backend runs what: `auto`, a name that fits, and a name that does not."""

import shutil

import pytest
import torch

from pyramidseg.backends import make_backend
from pyramidseg.base.errors import ConfigError, DataError, WeightsError
from pyramidseg.model.segmenter import Segmenter


@pytest.fixture
def beside(bundle, exported, tmp_path):
    """The bundle in a folder of its own, and a function that puts exports beside it."""
    shutil.copy(bundle, tmp_path / bundle.name)

    def put(*formats):
        for format in formats:
            for file in exported(format).parent.glob("best.*"):
                shutil.copy(file, tmp_path / file.name)
        return tmp_path / bundle.name

    return put


@pytest.mark.parametrize(
    ("formats", "runs"),
    [
        ((), "torch fp32 on cpu"),
        (("torch",), "torch fp32 on cpu"),
        (("onnx",), "onnxruntime fp32 on cpu: best.onnx"),
        (("onnx", "openvino"), "openvino fp32 on cpu: best.xml"),
    ],
)
def test_auto_takes_the_fastest_export_beside_a_bundle(beside, formats, runs):
    assert str(make_backend(beside(*formats), device="cpu")) == runs


def test_auto_leaves_out_what_is_not_installed(beside, monkeypatch):
    bundle = beside("onnx", "openvino")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "openvino" else name)
    assert make_backend(bundle, device="cpu").name == "onnxruntime"


def test_an_export_of_another_model_is_left_alone_and_that_is_said(beside):
    bundle = beside("openvino")
    model = Segmenter.load(bundle)
    model.classifier.weight.data *= 2
    model.save(bundle)
    backend = make_backend(bundle, device="cpu")
    assert backend.name == "torch"
    assert "best.xml is not used, as it was not exported from the present content of best.safetensors" in str(backend)
    with pytest.raises(
        WeightsError,
        match=r"export it again: pyramidseg export .* --format openvino",
    ):
        make_backend(bundle, "openvino", device="cpu")


def test_a_damaged_export_is_left_alone_and_that_is_said(beside):
    bundle = beside("onnx")
    bundle.with_suffix(".onnx").write_bytes(b"junk")
    assert "best.onnx is not used, as it cannot be read" in str(make_backend(bundle, device="cpu"))


def test_a_bundle_runs_in_a_runtime_that_was_asked_for_once_it_is_exported(beside):
    with pytest.raises(ConfigError, match=r"best\.onnx does not exist; run pyramidseg export .* --format onnx"):
        make_backend(beside(), "onnxruntime", device="cpu")
    named = make_backend(beside("onnx", "openvino"), "onnxruntime", device="cpu")
    assert str(named) == "onnxruntime fp32 on cpu: best.onnx"
    with pytest.raises(DataError, match=r"takes uint8 images, got uint16; .* \(`backend='torch'`\)"):
        named(torch.zeros(1, 3, 8, 8, dtype=torch.uint16))
    assert make_backend(beside("onnx", "openvino"), "torch", device="cpu").name == "torch"


def test_bf16_is_not_taken_from_a_file_that_has_it_not(beside):
    backend = make_backend(beside("onnx"), precision="bf16", device="cpu")
    assert str(backend) == "torch bf16 on cpu: best.onnx is not used, as its precision is fixed"
    assert make_backend(beside("openvino"), precision="bf16", device="cpu").name == "openvino"


@pytest.mark.parametrize(
    ("format", "wrong", "right"), [("onnx", "openvino", "onnxruntime"), ("torch", "torch", "torch-exported")]
)
def test_an_exported_file_has_one_runtime(exported, format, wrong, right):
    with pytest.raises(ConfigError, match=rf"`backend={wrong}`: .* runs in {right}, with which its export was check"):
        make_backend(exported(format), wrong, device="cpu")


def test_an_exported_file_runs_in_its_runtime_when_that_is_named(exported):
    assert make_backend(exported("onnx"), "onnxruntime", device="cpu").name == "onnxruntime"


def test_the_weights_of_an_openvino_file_name_its_graph(exported):
    path = exported("openvino")
    with pytest.raises(WeightsError, match=r"best\.bin: holds only the weights of best\.xml; give .*best\.xml"):
        make_backend(path.with_suffix(".bin"), device="cpu")


def test_a_model_in_memory_runs_in_torch(bundle):
    with pytest.raises(ConfigError, match="`backend=openvino`: runs exported files; this model is in memory"):
        make_backend(Segmenter.load(bundle), "openvino", device="cpu")
