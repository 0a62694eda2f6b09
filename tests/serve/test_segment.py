"""POST /segment: every form of the image, every form of the answer, and errors of one sentence."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from made_backends import Brightness
from made_server import noise, png, read, serving
from pyramidseg.images.value_range import ValueRange
from pyramidseg.predict.predictor import Predictor

PIXELS = noise()
CONTENT = png(PIXELS)


@pytest.fixture(scope="module")
def client():
    with serving() as client:
        yield client


@pytest.fixture(scope="module")
def lone():
    return Predictor(Brightness()).predict(PIXELS, confidence=True, probabilities=True)


@pytest.mark.filterwarnings("ignore:__array__")  # in pycocotools
def test_json_has_what_is_included(client, lone):
    answer = client.post("/segment?include=labels,confidence,polygons,run_lengths", content=CONTENT)
    found = answer.json()
    assert answer.status_code == 200
    assert (found["model"], found["width"], found["height"]) == ("m0", 30, 20)
    assert [entry["name"] for entry in found["classes"]] == ["dark", "bright", "absent"]
    assert found["classes"][1] == {
        "index": 1,
        "name": "bright",
        "color": list(lone.classes.colors[1]),
        "share": (lone.labels == 1).mean(),
    }
    assert np.array_equal(read(base64.b64decode(found["labels_png"])), lone.labels)
    assert np.array_equal(read(base64.b64decode(found["confidence_png"])), (255 * lone.confidence).round())
    drawn = np.full(lone.labels.shape, 9, np.uint8)
    area = {0: 0, 1: 0}
    for polygon in found["polygons"]:
        for ring in polygon["rings"]:
            (x, y), (next_x, next_y) = np.array(ring).T, np.roll(ring, -1, axis=0).T
            area[polygon["class"]] += int((x * next_y - next_x * y).sum()) // 2
    assert area == {0: (lone.labels == 0).sum(), 1: (lone.labels == 1).sum()}
    for runs in found["run_lengths"]:
        assert runs["size"] == [20, 30]
        pixels = decode(runs["counts"], 20, 30)
        drawn[pixels] = runs["class"]
    assert np.array_equal(drawn, lone.labels)
    assert found["request_id"] == answer.headers["X-Request-ID"] and found["seconds"] > 0


def decode(counts, height, width):
    mask = pytest.importorskip("pycocotools.mask")
    return mask.decode({"size": [height, width], "counts": counts}).astype(bool)


def test_json_without_anything_included_has_the_shares(client, lone):
    found = client.post("/segment", params={"include": ""}, content=CONTENT).json()
    assert not {"labels_png", "confidence_png", "polygons", "run_lengths"} & set(found)
    assert sum(entry["share"] for entry in found["classes"]) == 1


@pytest.mark.parametrize("how", ["raw", "curl", "multipart", "json"])
def test_an_image_comes_in_three_ways(client, lone, how):
    form = {
        "raw": {"content": CONTENT, "headers": {"Content-Type": "image/png"}},
        "curl": {"content": CONTENT, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
        "multipart": {"files": {"image": ("a.png", CONTENT, "image/png")}},
        "json": {"json": {"image": base64.b64encode(CONTENT).decode()}},
    }[how]
    answer = client.post("/segment?format=labels", **form)
    assert answer.status_code == 200 and answer.headers["Content-Type"] == "image/png"
    assert np.array_equal(read(answer.content), lone.labels)


def test_overlay_confidence_and_probabilities(client, lone):
    overlay = read(client.post("/segment?format=overlay", content=CONTENT).content)
    assert np.array_equal(overlay, lone.overlay(PIXELS))
    confidence = read(client.post("/segment?format=confidence", content=CONTENT).content)
    assert np.array_equal(confidence, (255 * lone.confidence).round())
    archive = np.load(io.BytesIO(client.post("/segment?format=npz-probabilities", content=CONTENT).content))
    assert np.array_equal(archive["probabilities"], lone.probabilities.astype(np.float16))
    assert list(archive["classes"]) == ["dark", "bright", "absent"]


def test_roboflow(client, lone):
    found = client.post("/segment?format=roboflow", content=CONTENT).json()
    assert found["image"] == {"width": 30, "height": 20}
    assert found["predictions"]["class_map"] == {"0": "dark", "1": "bright", "2": "absent"}
    assert np.array_equal(read(base64.b64decode(found["predictions"]["segmentation_mask"])), lone.labels)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("image/png", "image/png"),
        ("application/json", "application/json"),
        ("*/*", "application/json"),
        ("text/html, image/png;q=0.9", "image/png"),
        ("image/png;q=0.1, application/json;q=0.9", "application/json"),
        ("image/png; q=0.1, */*;q=0.5", "application/json"),
        ("*/*, application/json;q=0", "image/png"),
        ("application/x-npz", "application/x-npz"),
    ],
)
def test_accept_chooses_the_form(client, accept, media_type):
    answer = client.post("/segment", content=CONTENT, headers={"Accept": accept})
    assert answer.status_code == 200 and answer.headers["Content-Type"] == media_type


def test_a_georeference_is_kept(client, lone):
    rasterio = pytest.importorskip("rasterio")
    with rasterio.MemoryFile() as memory:
        place = {"crs": "EPSG:32616", "transform": rasterio.Affine(0.5, 0, 400000, 0, -0.5, 5000000)}
        with memory.open(driver="GTiff", height=20, width=30, count=3, dtype="uint8", **place) as file:
            file.write(PIXELS.transpose(2, 0, 1))
        content = memory.read()
    answer = client.post("/segment", content=content, headers={"Accept": "image/tiff"})
    assert answer.headers["Content-Type"] == "image/tiff"
    with rasterio.MemoryFile(answer.content) as memory, memory.open() as file:
        assert file.crs.to_epsg() == 32616 and file.transform == place["transform"]
        assert np.array_equal(file.read(1), lone.labels)
    refused = client.post("/segment?format=geotiff", content=CONTENT)
    assert refused.status_code == 400 and "no georeference" in refused.json()["error"]


@pytest.mark.parametrize(
    ("query", "request_", "status", "words"),
    [
        ("", {"content": b""}, 400, "no image"),
        ("", {"content": b"hello"}, 400, "not an image in a supported format"),
        ("", {"content": CONTENT[:60]}, 400, "cannot be read as an image"),
        ("?model=other", {"content": CONTENT}, 404, "known are m0"),
        ("?format=pdf", {"content": CONTENT}, 400, "'labels', 'overlay'"),
        ("?include=boxes", {"content": CONTENT}, 400, "possible are labels"),
        ("", {"content": CONTENT, "headers": {"Accept": "text/html"}}, 406, "format="),
        ("", {"content": CONTENT, "headers": {"Content-Encoding": "gzip"}}, 415, "compressed"),
        ("", {"json": {"picture": ""}}, 400, "the request has no image"),
        ("", {"json": {"image": "%%%"}}, 400, "no image"),
        ("", {"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}}, 400, "body: Invalid JSON"),
        ("", {"files": {"picture": ("a.png", CONTENT)}}, 400, "only picture"),
        ("", {"data": {"image": "text"}, "files": {"other": ("a", b"b")}}, 400, "no file named image"),
        ("", {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "multipart"),
        (
            "",
            {"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=a"}},
            400,
            "multipart body cannot be read",
        ),
    ],
)
def test_errors_are_one_sentence(client, query, request_, status, words):
    answer = client.post(f"/segment{query}", **request_)
    error = answer.json()["error"]
    assert answer.status_code == status and words in error and "\n" not in error and len(error) < 500, answer.text


def test_a_defect_does_not_show_its_details(client, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("secret")

    monkeypatch.setattr(client.service.engines["m0"].predictor, "compute", fail)
    answer = client.post("/segment", content=CONTENT)
    assert answer.status_code == 500 and "secret" not in answer.text and "request id" in answer.json()["error"]
    monkeypatch.undo()
    assert client.post("/segment", content=CONTENT).status_code == 200


def test_a_second_model_is_chosen_by_name():
    class Inverted(Brightness):
        def coarse_logits(self, images):
            return -super().coarse_logits(images)[:, [0, 1]] if False else super().coarse_logits(images)[:, [1, 0, 2]]

    with serving(Predictor(Brightness()), Predictor(Inverted())) as client:
        first, second = (
            read(client.post(f"/segment?format=labels&model={name}", content=CONTENT).content) for name in ("m0", "m1")
        )
        assert np.array_equal(first, 1 - second)
        assert "choose one of m0, m1" in client.post("/segment", content=CONTENT).json()["error"]
        assert [card["name"] for card in client.get("/models").json()] == ["m0", "m1"]


def test_no_content_is_written_to_disk(client, monkeypatch, tmp_path):
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    content = png(noise(700, 900))  # over a megabyte, which Starlette would spool
    answer = client.post("/segment?format=labels", files={"image": ("a.png", content)})
    assert len(content) > 2**20 and answer.status_code == 200


def test_the_image_may_be_grey_or_16_bit(client):
    grey = np.array([[0, 255]], np.uint8)
    assert read(client.post("/segment?format=labels", content=png(grey)).content).tolist() == [[0, 1]]
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(file, "PNG")
    assert client.post("/segment?format=labels", content=file.getvalue()).status_code == 200


def test_the_model_card(client):
    (card,) = client.get("/models").json()
    assert card["name"] == "m0" and card["input"]["channels"] == 3 and card["version"].startswith("m0-")
    assert [entry["name"] for entry in card["classes"]] == ["dark", "bright", "absent"]
    assert set(json.loads(client.get("/openapi.json").text)["paths"]) >= {"/segment", "/models", "/v2/models/{name}"}


def test_the_model_card_has_the_values_of_training_with_test_time_augmentation_too():
    class Trained(Brightness):
        value_range = ValueRange("uint16", 3, 4095)

    with serving(Predictor(Trained()), Predictor(Trained(), tta=True), Predictor(Brightness())) as client:
        values = [card["input"]["values in training"] for card in client.get("/models").json()]
    assert values == ["uint16 from 3 to 4095", "uint16 from 3 to 4095", "unknown"]
