"""The Open Inference Protocol with KServe's own client, unmodified, against a server process."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("kserve", reason="make test-clients")

from httpx import HTTPStatusError
from kserve import InferInput, InferRequest
from kserve.inference_client import InferenceRESTClient, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

from made_server import noise, png, server_process, small_bundle
from pyramidseg.predict.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries

IMAGE = noise(40, 60)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("model") / "street.safetensors")


@pytest.fixture(scope="module")
def url(bundle):
    with server_process(bundle, "--device", "cpu") as (url, _):
        yield url


@pytest.fixture(scope="module")
def lone(bundle):
    return Predictor(bundle, device="cpu").predict(IMAGE, confidence=True, probabilities=True)


def ask(work):
    """The result of what `work` does with a client."""

    async def run():
        client = InferenceRESTClient(RESTConfig(protocol="v2"))
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(run())


def infer(url, tensor, **more):
    request = InferRequest(model_name="street", infer_inputs=[tensor], **more)
    return ask(lambda client: client.infer(url, request, model_name="street"))


def test_status(url):
    assert ask(lambda client: client.is_server_live(url)) and ask(lambda client: client.is_server_ready(url))
    assert ask(lambda client: client.is_model_ready(url, "street"))


@pytest.mark.parametrize("binary", [True, False])
def test_a_tensor(url, lone, binary):
    tensor = InferInput("image", [1, 3, 40, 60], "UINT8")
    tensor.set_data_from_numpy(np.ascontiguousarray(IMAGE.transpose(2, 0, 1)[None]), binary_data=binary)
    answer = infer(url, tensor, request_id="7")
    assert answer.id == "7" and answer.model_name == "street"
    (labels,) = answer.outputs
    assert (labels.name, labels.datatype, list(labels.shape)) == ("labels", "UINT8", [1, 40, 60])
    assert np.array_equal(labels.as_numpy()[0], lone.labels)


@pytest.mark.parametrize("binary", [True, False])
def test_outputs_by_name(url, lone, binary):
    tensor = InferInput("image", [1, 3, 40, 60], "UINT8")
    tensor.set_data_from_numpy(np.ascontiguousarray(IMAGE.transpose(2, 0, 1)[None]), binary_data=binary)
    names = ("confidence", "probabilities", "labels")
    outputs = [RequestedOutput(name, parameters={"binary_data": binary}) for name in names]
    answer = infer(url, tensor, request_outputs=outputs)
    assert [output.name for output in answer.outputs] == list(names)
    for output in answer.outputs:
        assert np.array_equal(output.as_numpy()[0], getattr(lone, output.name)), output.name


def test_an_encoded_image(url, lone):
    tensor = InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([png(IMAGE)], dtype=np.object_), binary_data=True)
    assert np.array_equal(infer(url, tensor).outputs[0].as_numpy()[0], lone.labels)


def test_errors_reach_the_client(url):
    tensor = InferInput("picture", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b"no image"], dtype=np.object_), binary_data=True)
    with pytest.raises(HTTPStatusError, match="'image'"):
        infer(url, tensor)
    with pytest.raises(HTTPStatusError, match="known are street"):
        ask(lambda client: client.infer(url, {"inputs": []}, model_name="other"))
