"""The Open Inference Protocol with Triton's own client, unmodified, against a server process."""

import numpy as np
import pytest

pytest.importorskip("tritonclient", reason="make test-clients")

import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from made_server import noise, png, server_process, small_bundle
from pyramidseg.predict.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("model") / "street.safetensors")


@pytest.fixture(scope="module")
def client(bundle):
    with server_process(bundle, "--device", "cpu") as (url, _):
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        yield client
        client.close()


IMAGE = noise(40, 60)


@pytest.fixture(scope="module")
def lone(bundle):
    return Predictor(bundle, device="cpu").predict(IMAGE, confidence=True, probabilities=True)


def test_status_and_metadata(client):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("street")
    assert client.is_model_ready("street", "1")
    assert client.get_server_metadata()["name"] == "pyramidseg"
    found = client.get_model_metadata("street")
    assert found["inputs"][0]["shape"] == [-1, 3, -1, -1]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("output_binary", [True, False])
def test_a_tensor(client, lone, binary, output_binary):
    tensor = triton.InferInput("image", [1, 3, 40, 60], "UINT8")
    tensor.set_data_from_numpy(np.ascontiguousarray(IMAGE.transpose(2, 0, 1)[None]), binary_data=binary)
    names = ("labels", "confidence", "probabilities")
    outputs = [triton.InferRequestedOutput(name, binary_data=output_binary) for name in names]
    answer = client.infer("street", [tensor], outputs=outputs, request_id="7")
    assert answer.get_response()["id"] == "7"
    for name in names:
        assert np.array_equal(answer.as_numpy(name)[0], getattr(lone, name)), name


def test_without_requested_outputs(client, lone):
    tensor = triton.InferInput("image", [1, 3, 40, 60], "UINT8")
    tensor.set_data_from_numpy(np.ascontiguousarray(IMAGE.transpose(2, 0, 1)[None]))
    assert np.array_equal(client.infer("street", [tensor]).as_numpy("labels")[0], lone.labels)


def test_an_encoded_image(client, lone):
    tensor = triton.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([png(IMAGE)], dtype=np.object_))
    assert np.array_equal(client.infer("street", [tensor]).as_numpy("labels")[0], lone.labels)


def test_floats_and_batches(client, bundle):
    images = np.stack([noise(20, 30, seed) for seed in range(3)])
    tensor = triton.InferInput("image", [3, 3, 20, 30], "FP32")
    values = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    tensor.set_data_from_numpy(np.ascontiguousarray(values))
    found = client.infer("street", [tensor]).as_numpy("labels")
    predictor = Predictor(bundle, device="cpu")
    for image, labels in zip(values, found, strict=True):
        assert np.array_equal(predictor.predict(image.transpose(1, 2, 0)).labels, labels)


def test_errors_reach_the_client(client):
    tensor = triton.InferInput("picture", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b"no image"], dtype=np.object_))
    with pytest.raises(InferenceServerException, match="Input should be 'image'"):
        client.infer("street", [tensor])
    with pytest.raises(InferenceServerException, match="known are street"):
        client.get_model_metadata("other")


def test_many_at_once(client, lone):
    tensor = triton.InferInput("image", [1, 3, 40, 60], "UINT8")
    tensor.set_data_from_numpy(np.ascontiguousarray(IMAGE.transpose(2, 0, 1)[None]))
    for asked in [client.async_infer("street", [tensor]) for _ in range(16)]:
        assert np.array_equal(asked.get_result().as_numpy("labels")[0], lone.labels)
