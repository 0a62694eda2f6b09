"""What only exported files have: metadata, chosen outputs, precisions, devices and missing packages.

test_contract.py has what every backend must do.
"""

import sys

import pytest
import torch

from forks import run_python
from pyramidseg.backends import EXPORTED, make_backend, onnx_backend
from pyramidseg.backends.metadata import COARSE, LOGITS
from pyramidseg.base.errors import ConfigError, DataError, DeviceError, MissingExtra
from pyramidseg.model.segmenter import Segmenter

FORMATS = ("onnx", "openvino", "torch")


def noise(batch, height, width, channels=3):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8, generator=generator)


def opened(path, **options):
    return EXPORTED[path.suffix](path, device="cpu", **options)


def close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.fixture(scope="module")
def model(bundle):
    return Segmenter.load(bundle)


@pytest.fixture(scope="module", params=FORMATS)
def backend(request, exported):
    """A runtime with the whole file, as other programs run it."""
    return opened(exported(request.param), outputs=(LOGITS, COARSE))


def test_prediction_runs_the_part_of_the_graph_that_it_needs(backend, model):
    """The same coarse logits without the rest, and the same labels from them as from the file's own logits."""
    part = opened(backend.path)
    images = noise(2, 45, 70)
    whole = backend.run(images)
    assert torch.equal(part.coarse_logits(images), whole[COARSE])
    assert list(part.run(images)) == [COARSE]
    close(part(images), whole[LOGITS])


def test_the_file_says_what_it_is(backend, model, bundle):
    assert backend.classes == model.classes
    assert backend.in_channels == 3
    assert backend.settings == model.settings
    assert backend.geometry.stride == 4
    assert backend.metadata.mean == tuple(model.mean.tolist())
    assert backend.metadata.source["file"] == bundle.name
    assert backend.resolution_m == 0.25
    assert backend.metadata.parity is not None
    assert backend.metadata.parity["passed"] is True
    assert str(backend) == f"{backend.name} fp32 on cpu: {backend.path.name}"


def test_a_file_for_bytes_refuses_floats_and_names_the_flag(backend):
    with pytest.raises(DataError, match="takes uint8 images, got float32; export with `input_dtype='float32'`"):
        backend.coarse_logits(noise(1, 8, 8) / 255)


def test_a_file_for_floats_takes_all_types_in_their_ranges(exported, model):
    backend = opened(exported("torch", input_dtype="float32"))
    bytes_ = noise(1, 40, 50)
    words = (bytes_.int() * 257).to(torch.uint16)
    with torch.inference_mode():
        expected = model(bytes_)
    for images in (bytes_, words, bytes_ / 255, (bytes_ / 255).double()):
        close(backend(images), expected)
    with torch.inference_mode():
        close(backend(bytes_.short()), model(bytes_.short()))


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_half_precision_is_near_and_said(exported, model, format):
    path = exported(format, precision="fp16")
    assert path.stem == "best-fp16"
    backend = opened(path)
    images = noise(1, 64, 96)
    with torch.inference_mode():
        expected = model(images)
    assert not torch.equal(backend(images), expected)
    assert (backend(images) - expected).abs().max() < 0.02 * expected.abs().max()
    assert backend.metadata.precision == "fp16"


def test_openvino_computes_in_what_it_is_told(exported, model):
    images = noise(1, 64, 96)
    with torch.inference_mode():
        expected = model(images)
    assert opened(exported("openvino")).precision == "fp32"
    rounded = opened(exported("openvino"), precision="bf16")
    assert (rounded(images) - expected).abs().max() < 0.1 * expected.abs().max()


OPENED_AND_DROPPED = """
import gc, os, signal, sys
from pyramidseg.backends.openvino_backend import OpenVinoBackend

arrived = []
signal.signal(signal.SIGINT, lambda *_: arrived.append(True))
backends = [OpenVinoBackend(sys.argv[1], device="cpu") for _ in range(2)]
while backends:
    del backends[0]
    gc.collect()
os.kill(os.getpid(), signal.SIGINT)
assert arrived
"""


def test_signals_are_survived_when_openvino_files_are_dropped_in_the_order_they_were_opened_in(exported):
    """Each `Core` of OpenVINO replaces the stack that the process handles signals on: see `shared_core`."""
    done = run_python("-c", OPENED_AND_DROPPED, exported("openvino"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("format", ["onnx", "torch"])
def test_a_precision_that_is_fixed_in_the_file_cannot_be_chosen(exported, format):
    with pytest.raises(ConfigError, match="was exported in fp32, which is fixed"):
        make_backend(exported(format), precision="bf16", device="cpu")


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_a_device_that_the_runtime_lacks(exported, format):
    with pytest.raises(DeviceError, match=r"`device=tpu`: .*choose"):
        make_backend(exported(format), device="tpu")


class FallenBack:
    """ONNX Runtime with a GPU that it offers and cannot use."""

    class SessionOptions:
        pass

    class InferenceSession:
        def __init__(self, content, options, providers):
            self.asked = providers

        def get_providers(self):
            return ["CPUExecutionProvider"]

    def get_available_providers(self):
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_gpu_that_onnx_runtime_cannot_use_is_no_place(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", FallenBack())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for device in ("cuda", "cuda:1"):
        with pytest.raises(
            DeviceError, match=f"`device={device}`: ONNX Runtime cannot use this GPU and would run on CPU"
        ):
            onnx_backend.OnnxRuntimeBackend(exported("onnx"), device=device)
    assert onnx_backend.OnnxRuntimeBackend(exported("onnx"), device="auto").place == "cpu"


def test_the_gpu_that_onnx_runtime_uses_is_the_place(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", FallenBack())
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(FallenBack.InferenceSession, "get_providers", lambda session: [session.asked[0][0]])
    for device in ("cuda:1", "cpu"):
        backend = onnx_backend.OnnxRuntimeBackend(exported("onnx"), device=device)
        assert (backend.place, backend.compute_device) == (device, torch.device(device))
        assert backend.device == torch.device("cpu")  # where its logits are


@pytest.mark.parametrize(
    ("format", "library", "extra"),
    [("onnx", "onnxruntime", "onnx"), ("onnx", "onnx", "onnx"), ("openvino", "openvino", "openvino")],
)
def test_an_absent_library_names_the_extra(exported, monkeypatch, format, library, extra):
    path = exported(format)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf"{library}, which is not installed: pip install 'pyramidseg\[{extra}\]'"):
        make_backend(path, device="cpu")
