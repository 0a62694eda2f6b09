"""The contract of every backend: shapes, dtype, parity with torch, any batch and size, rejected input.

A new runtime is checked by its entry in `BACKENDS`, and in `EXPORTED` if it runs files.
"""

import copy
import importlib.util
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.backends import BACKENDS, EXPORTED, make_backend
from pyramidseg.base.errors import DataError, DeviceError, WeightsError
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predictor import Predictor

EXPORTED_BY_NAME = {backend.name: backend for backend in EXPORTED.values()}
COMPILED = {"torch-compiled"}
"""Compiling takes minutes; test_torch_backend.py traces it without a compiler."""


def noise(batch, height, width, channels=3):
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (batch, channels, height, width), dtype=torch.uint8, generator=generator)


def assert_close(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.fixture(scope="module")
def model(bundle):
    return Segmenter.load(bundle)


@pytest.fixture(scope="module", params=sorted(set(BACKENDS) - COMPILED))
def backend(request, bundle, exported):
    if (runtime := EXPORTED_BY_NAME.get(request.param)) is None:
        return make_backend(bundle, request.param, device="cpu")
    for library in runtime.libraries:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    return make_backend(exported(runtime.format), request.param, device="cpu")


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 3), height=st.integers(1, 100), width=st.integers(1, 100))
def test_logits_are_the_models_for_any_batch_and_size(backend, model, batch, height, width):
    images = noise(batch, height, width)
    with torch.inference_mode():
        expected, coarse = model(images), model.coarse_logits(images)
    logits, coarse_logits = backend(images), backend.coarse_logits(images)
    assert logits.dtype == coarse_logits.dtype == torch.float32
    assert logits.shape == (batch, len(backend.classes), height, width)
    assert_close(coarse_logits, coarse)
    assert_close(logits, expected)
    assert not logits.requires_grad


def test_calling_it_upsamples_the_coarse_logits(backend):
    images = noise(2, 45, 61)
    assert torch.equal(backend.geometry.upsample(backend.coarse_logits(images), 45, 61), backend(images))


@pytest.mark.parametrize("copied", [lambda backend: pickle.loads(pickle.dumps(backend)), copy.deepcopy])
def test_pickled_and_copied_ones_compute_the_same(backend, copied):
    predictor = copied(Predictor(backend))
    assert str(predictor.backend) == str(backend)
    assert torch.equal(predictor.backend(noise(2, 45, 61)), backend(noise(2, 45, 61)))


def test_a_pickled_export_that_is_not_there_any_more_is_one_error(exported, tmp_path, monkeypatch):
    source = exported("torch")
    (tmp_path / source.name).write_bytes(source.read_bytes())
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps(make_backend(source.name, device="cpu"))
    monkeypatch.chdir("/")
    assert pickle.loads(pickled).path == tmp_path / source.name
    (tmp_path / source.name).unlink()
    with pytest.raises(WeightsError, match="no such file"):
        pickle.loads(pickled)


def test_it_describes_the_model_and_where_it_runs(backend, model):
    assert (backend.classes, backend.in_channels) == (model.classes, 3)
    assert backend.geometry.stride == model.settings.finest_stride
    assert str(backend).startswith(f"{backend.name} fp32 on cpu")
    assert backend.name in BACKENDS


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (3, 8, 8), (1, 3, 0, 8)])
def test_images_of_another_shape_are_rejected(backend, shape):
    with pytest.raises(DataError, match=r"this model takes \(B, 3, H, W\)"):
        backend.coarse_logits(torch.zeros(shape, dtype=torch.uint8))


def test_an_unknown_device_is_rejected(backend, bundle, exported):
    runtime = EXPORTED_BY_NAME.get(backend.name)
    model = bundle if runtime is None else exported(runtime.format)
    with pytest.raises(DeviceError, match="tpu"):
        make_backend(model, backend.name, device="tpu")
