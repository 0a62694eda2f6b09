"""Open Inference Protocol v2, with requests made by hand; tests/clients/tritonclient has a real client."""

import base64
import json

import numpy as np
import pytest

from made_backends import Brightness
from made_server import noise, png, serving
from pyramidseg.predict.predictor import Predictor

PIXELS = noise(4, 6)
TENSOR = PIXELS.transpose(2, 0, 1)[None]
INFER = "/v2/models/m0/infer"
HEADER = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def client():
    with serving(max_images=3) as client:
        yield client


@pytest.fixture(scope="module")
def lone():
    return Predictor(Brightness()).predict(PIXELS, confidence=True, probabilities=True)


def image(**changes):
    given = {"name": "image", "shape": [1, 3, 4, 6], "datatype": "UINT8", "data": TENSOR.ravel().tolist()}
    return {key: value for key, value in (given | changes).items() if value is not None}


def binary_body(tensor, content, **request):
    size = {"parameters": {"binary_data_size": len(content)}}
    head = json.dumps({"inputs": [image(data=None, **(size | tensor))], **request}).encode()
    return {"content": head + content, "headers": {HEADER: str(len(head))}}


def arrays(answer):
    length = int(answer.headers.get(HEADER, len(answer.content)))
    head, rest = json.loads(answer.content[:length]), answer.content[length:]
    found = {}
    for output in head["outputs"]:
        dtype = {"UINT8": np.uint8, "FP32": np.float32}[output["datatype"]]
        size = output.get("parameters", {}).get("binary_data_size")
        values = np.array(output["data"], dtype) if size is None else np.frombuffer(rest[:size], dtype)
        rest = rest[size or 0 :]
        found[output["name"]] = values.reshape(output["shape"])
    assert rest == b""
    return head, found


def test_the_server_and_its_models_describe_themselves(client):
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert client.get("/v2/health/ready").json() == {"live": True, "ready": True}
    for path in ("/v2/models/m0", "/v2/models/m0/versions/1"):
        found = client.get(path).json()
        assert found["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 3, -1, -1]}]
        assert [output["name"] for output in found["outputs"]] == ["labels", "confidence", "probabilities"]
        assert found["outputs"][2]["shape"] == [-1, 3, -1, -1]
        assert client.get(f"{path}/ready").json() == {"name": "m0", "ready": True}
    assert client.get("/v2/models/m1").status_code == client.get("/v2/models/m0/versions/2").status_code == 404


@pytest.mark.parametrize("data", [TENSOR.ravel().tolist(), TENSOR.tolist()], ids=["flat", "nested"])
def test_json(client, lone, data):
    answer = client.post(INFER, json={"id": "42", "inputs": [image(data=data)]})
    head, found = arrays(answer)
    assert (head["model_name"], head["model_version"], head["id"]) == ("m0", "1", "42")
    assert found.keys() == {"labels"} and np.array_equal(found["labels"], lone.labels[None])


def test_binary(client, lone):
    outputs = [
        {"name": "probabilities", "parameters": {"binary_data": True}},
        {"name": "labels", "parameters": {"binary_data": False}},
        {"name": "confidence", "parameters": {"binary_data": True}},
    ]
    answer = client.post(INFER, **binary_body({}, TENSOR.tobytes(), outputs=outputs))
    head, found = arrays(answer)
    assert [output["name"] for output in head["outputs"]] == ["probabilities", "labels", "confidence"]
    for name in found:
        assert found[name].tobytes() == getattr(lone, name).tobytes()


def test_all_outputs_binary_by_default_of_the_request(client, lone):
    answer = client.post(INFER, **binary_body({}, TENSOR.tobytes(), parameters={"binary_data_output": True}))
    assert HEADER in answer.headers and np.array_equal(arrays(answer)[1]["labels"][0], lone.labels)


def test_an_encoded_image(client, lone):
    content = png(PIXELS)
    element = len(content).to_bytes(4, "little") + content
    answers = [
        client.post(INFER, **binary_body({"datatype": "BYTES", "shape": [1]}, element)),
        client.post(
            INFER,
            json={"inputs": [image(datatype="BYTES", shape=[1, 1], data=[base64.b64encode(content).decode()])]},
        ),
    ]
    for answer in answers:
        assert np.array_equal(arrays(answer)[1]["labels"][0], lone.labels), answer.text


def test_several_images_and_other_types(client):
    batch = np.stack([noise(4, 6, seed).transpose(2, 0, 1) for seed in range(3)])
    found = arrays(client.post(INFER, **binary_body({"shape": [3, 3, 4, 6]}, batch.tobytes())))[1]["labels"]
    assert np.array_equal(found, batch[:, 0] > 127)
    values = (batch[:1] / np.float32(255)).astype("<f4")
    tensor = {"datatype": "FP32"}
    found = arrays(client.post(INFER, **binary_body(tensor, values.tobytes())))[1]["labels"]
    assert np.array_equal(found, batch[:1, 0] > 127)
    found = arrays(client.post(INFER, json={"inputs": [image(datatype="FP32", data=values.tolist())]}))[1]["labels"]
    assert np.array_equal(found, batch[:1, 0] > 127)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [1, 3, 4, 7]}, ["72 values", "[1, 3, 4, 7] needs 84"]),
        ({"shape": [1, 3, 4, -6]}, ["inputs.0.shape.3", "-6"]),
        ({"shape": [1, 3, 4, 0]}, ["inputs.0.shape.3", "got 0"]),
        ({"shape": [1, 3, 4, "6"]}, ["inputs.0.shape.3", "'6'"]),
        ({"shape": [1, 3, 4, 6.0]}, ["inputs.0.shape.3"]),
        ({"shape": [1, 3, 4, True]}, ["inputs.0.shape.3", "True"]),
        ({"shape": [1, 3, 4, 2**70]}, ["inputs.0.shape.3"]),
        ({"shape": [1, 3, 2**30, 2**30]}, ["72 values", str(3 * 2**60)]),
        ({"shape": [4, 3, 4, 6]}, ["B from 1 to 3"]),
        ({"shape": [3, 4, 6]}, ["[B, C, H, W]"]),
        ({"shape": []}, ["inputs.0.shape"]),
        ({"shape": "1,3,4,6"}, ["inputs.0.shape"]),
        ({"shape": [1, 3, 24, 1], "data": [[1, 2], [3]]}, ["list of numbers from 0 to 255"]),
        ({"data": [256] + [0] * 71}, ["from 0 to 255"]),
        ({"data": [-1] + [0] * 71}, ["from 0 to 255"]),
        ({"data": [10**30] + [0] * 71}, ["from 0 to 255"]),
        ({"data": [0.5] + [0] * 71}, ["from 0 to 255"]),
        ({"data": ["1"] * 72}, ["from 0 to 255"]),
        ({"data": [True] * 72}, ["from 0 to 255"]),
        ({"data": [0] * 71}, ["71 values", "needs 72"]),
        ({"data": None}, ["from 0 to 255"]),
        ({"data": {"a": 1}}, ["from 0 to 255"]),
        ({"datatype": "UINT9"}, ["inputs.0.datatype", "UINT9"]),
        ({"datatype": "FP32", "data": ["nan"] * 72}, ["list of numbers"]),
        ({"datatype": "BYTES"}, ["shape [1]"]),
        ({"datatype": "BYTES", "shape": [1], "data": ["%"]}, ["base64"]),
        ({"datatype": "BYTES", "shape": [1], "data": [5]}, ["base64"]),
        ({"datatype": "BYTES", "shape": [1], "data": ["aGVsbG8="]}, ["not an image"]),
        ({"name": "picture"}, ["inputs.0.name", "picture"]),
        ({"parameters": {"binary_data_size": 72}}, ["binary_data_size is 72, but 0 bytes follow"]),
        ({"parameters": {"binary_data_size": -72}}, ["binary_data_size", "-72"]),
        ({"shape": [1, 5, 2, 2], "data": [0] * 20}, ["5 channels"]),
    ],
)
def test_malformed_tensors_get_the_numbers_that_disagree(client, changes, words):
    answer = client.post(INFER, json={"inputs": [image(**changes)]})
    assert answer.status_code == 400, answer.text
    for word in words:
        assert word in answer.json()["error"], answer.text


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"content": b"{"}, ["Invalid JSON"]),
        ({"content": b"[]"}, ["body"]),
        ({"content": b"\xff\xfe"}, ["Invalid JSON"]),
        ({"content": b'{"inputs": ' + b"[" * 100_000}, ["Invalid JSON"]),
        ({"json": {}}, ["inputs: Field required"]),
        ({"json": {"inputs": [image()] * 2}}, ["inputs"]),
        ({"json": {"inputs": [image()], "outputs": [{"name": "boxes"}]}}, ["outputs.0.name", "boxes"]),
        ({"json": {"inputs": [image()], "id": 7}}, ["id", "7"]),
        (
            {"json": {"inputs": [image()], "outputs": [{"name": "labels", "parameters": {"binary_data": 1}}]}},
            ["binary_data"],
        ),
        ({"content": b"{}", "headers": {HEADER: "3"}}, [f"{HEADER}: 3, but the body has 2 bytes"]),
        ({"content": b"{}", "headers": {HEADER: "-1"}}, [f"{HEADER}: -1"]),
        ({"content": b"{}", "headers": {HEADER: "two"}}, ["two"]),
        ({"content": b"{}", "headers": {HEADER: "9" * 5000}}, ["2 bytes"]),
        (binary_body({}, TENSOR.tobytes()[:-1]), ["71 bytes of data", "1 x 3 x 4 x 6 values of 1 bytes, 72"]),
        (binary_body({"datatype": "FP32"}, TENSOR.tobytes()), ["72 bytes of data", "of 4 bytes, 288"]),
        (binary_body({"parameters": {"binary_data_size": 70}}, TENSOR.tobytes()), ["size is 70, but 72 bytes follow"]),
        (binary_body({"parameters": {}}, TENSOR.tobytes()), ["size is None, but 72 bytes follow"]),
        (binary_body({"datatype": "BYTES", "shape": [1]}, b"\x05\0\0\0hell"), ["an element of 5 bytes, but 4 follow"]),
        (binary_body({"datatype": "BYTES", "shape": [1]}, b"\x05"), ["0 follow its length"]),
        (binary_body({"datatype": "BYTES", "shape": [1]}, b"\xff\xff\xff\xffx"), ["4294967295 bytes, but 1 follow"]),
    ],
)
def test_malformed_requests_get_the_numbers_that_disagree(client, request_, words):
    answer = client.post(INFER, **request_)
    assert answer.status_code == 400, answer.text
    for word in words:
        assert word in answer.json()["error"], answer.text


def test_much_json_is_refused(client):
    answer = client.post(INFER, content=b" " * (2**23 + 1))
    assert answer.status_code == 413 and "in binary" in answer.json()["error"]


def test_much_json_in_an_answer_is_refused(client, monkeypatch):
    monkeypatch.setattr("pyramidseg.serve.open_inference.MAX_JSON_VALUES", 23)
    answer = client.post(INFER, json={"inputs": [image()]})
    assert answer.status_code == 413 and "ask for binary_data" in answer.json()["error"]


def test_mutated_requests_are_never_a_defect(client):
    generator = np.random.default_rng(0)
    good = [binary_body({}, TENSOR.tobytes()), {"content": json.dumps({"inputs": [image()]}).encode(), "headers": {}}]
    for number in range(300):
        request = good[number % 2]
        content = bytearray(request["content"])
        for _ in range(generator.integers(1, 4)):
            place = int(generator.integers(len(content)))
            kind = generator.integers(3)
            if kind == 0:
                content[place] = int(generator.integers(256))
            elif kind == 1:
                del content[place : place + int(generator.integers(1, 9))]
            else:
                content[place:place] = bytes(generator.choice(list(b'"[]{}0-1e,:x\xff'), 3).astype(np.uint8))
        answer = client.post(INFER, content=bytes(content), headers=request["headers"])
        assert answer.status_code in (200, 400, 413), (answer.status_code, bytes(content))
