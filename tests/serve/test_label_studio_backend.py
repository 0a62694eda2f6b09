"""Label Studio's ML backend, with a made Label Studio on this machine; its regions are drawn again and compared."""

import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from made_backends import Brightness
from made_server import Held, noise, png, serving
from pyramidseg.annotations.brush_rle import decode_brush, encode_brush
from pyramidseg.annotations.polygons import Location
from pyramidseg.base.classes import Classes
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.segmentation import Segmentation
from pyramidseg.serve.label_studio_backend import Control, make_regions, read_controls
from pyramidseg.serve.label_studio_images import LabelStudioImages
from pyramidseg.serve.limits import Limits, Refused

WHERE = Location(Path("x.json"), "task 1")
PIXELS = noise()
CONTENT = png(PIXELS)
BRUSH = """<View><!-- a comment --><Image name="img" value="$photo"/>
  <BrushLabels name="tag" toName="img"><Label value="Bright"/><Label value="night" predicted_values="dark, black"/>
  <Label value="extra"/></BrushLabels></View>"""
POLYGON = """<View><Image name="image" value="$image"/><PolygonLabels name="p" toName="image">
  <Label value="bright"/></PolygonLabels></View>"""
JWT = "aaa.bbb.ccc"


class MadeLabelStudio(BaseHTTPRequestHandler):
    """Under /ls; images need a token."""

    seen: list[tuple[str, str]] = []

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.seen.append((self.path, self.headers.get("Authorization", "")))
        places = {"/ls/away.png": "http://127.0.0.1:1/a.png", "/ls/moved.png": "/ls/data/upload/7/a.png"}
        if self.path in places:
            self.send_response(302)
            self.send_header("Location", places[self.path])
            self.end_headers()
        elif self.headers.get("Authorization") not in ("Token good", "Bearer fresh"):
            self.answer(401 if self.headers.get("Authorization") else 403, b"no")
        elif self.path.startswith("/ls/data/"):
            self.answer(200, CONTENT)
        else:
            self.answer(404, b"none")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append((self.path, str(body)))
        good = self.path == "/ls/api/token/refresh" and body == {"refresh": JWT}
        self.answer(200 if good else 401, b'{"access": "fresh"}')

    def answer(self, status, content):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def studio():
    server = ThreadingHTTPServer(("127.0.0.1", 0), MadeLabelStudio)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/ls"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(studio):
    with serving(app={"label_studio_url": studio, "label_studio_key": "good"}) as client:
        yield client


def predict(client, tasks, config=BRUSH):
    body = {"tasks": tasks, "label_config": config, "project": "7.17", "params": {"context": None}}
    answer = client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


@pytest.mark.parametrize("seed", range(6))
def test_encoded_brushes_are_decoded_to_the_same_pixels(seed):
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 40, 2)
    region = generator.random((height, width)) < generator.random()
    assert np.array_equal(decode_brush(encode_brush(region), height=height, width=width, where=WHERE), region)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 64, 16384, 16385, 40000])
def test_long_and_short_runs_of_a_brush(length):
    region = np.zeros((2, 40000), bool)
    region[1, :length] = True
    assert np.array_equal(decode_brush(encode_brush(region), height=2, width=40000, where=WHERE), region)


def test_setup_reports_what_does_not_match(client, caplog):
    with caplog.at_level(logging.WARNING):
        answer = client.post("/setup", json={"project": "7.17", "schema": BRUSH, "hostname": "http://ls"})
    found = answer.json()
    assert found["model_version"] == client.service.engines["m0"].model.version
    assert found["classes_without_a_label"] == ["absent"] and found["labels_without_a_class"] == ["extra"]
    assert "labels without a class: extra" in caplog.text
    assert client.post("/validate", json={"config": BRUSH}).json() == found


def test_brushes(client):
    lone = Predictor(Brightness()).predict(PIXELS, confidence=True)
    (result,) = predict(client, [{"id": 1, "data": {"photo": "/data/upload/7/a.png"}}])
    assert [region["value"]["brushlabels"] for region in result["result"]] == [["night"], ["Bright"]]
    for index, region in enumerate(result["result"]):
        assert (region["from_name"], region["to_name"], region["type"]) == ("tag", "img", "brushlabels")
        assert (region["original_width"], region["original_height"], region["image_rotation"]) == (30, 20, 0)
        pixels = decode_brush(region["value"]["rle"], height=20, width=30, where=WHERE)
        assert np.array_equal(pixels, lone.labels == index)
        assert region["score"] == pytest.approx(lone.confidence[pixels].mean())
    assert len({region["id"] for region in result["result"]}) == 2
    assert result["score"] == pytest.approx(lone.confidence.mean())
    assert result["model_version"] == client.service.engines["m0"].model.version


def test_polygons_cover_the_same_pixels(client):
    cv2 = pytest.importorskip("cv2")
    lone = Predictor(Brightness()).predict(PIXELS)
    (result,) = predict(client, [{"id": 1, "data": {"image": "/data/upload/7/a.png"}}], POLYGON)
    drawn = np.zeros((20, 30), np.uint8)
    for region in result["result"]:
        assert region["value"]["closed"] is True and region["value"]["polygonlabels"] == ["bright"]
        points = np.array(region["value"]["points"]) * (30 / 100, 20 / 100)
        large = np.zeros((200, 300), np.uint8)  # ten times as large: pixel centres are at 5, 15, ...
        cv2.fillPoly(large, [np.round(points * 10).astype(np.int32)], 1)
        drawn |= large[5::10, 5::10]
    assert np.array_equal(drawn == 1, lone.labels == 1)


def test_polygons_of_regions_with_holes_cover_the_same_pixels():
    cv2 = pytest.importorskip("cv2")
    pixels = np.zeros((20, 30), np.uint8)
    pixels[2:18, 3:27] = 1
    pixels[4:7, 5:9] = pixels[10:15, 12:20] = 0
    control = Control("polygonlabels", "p", "image", "image", {1: "bright"}, [])
    found = Segmentation(pixels, Classes.from_names(["dark", "bright"]), confidence=np.ones((20, 30), np.float32))
    (region,) = make_regions(found, [control])
    points = np.array(region["value"]["points"]) * (30 / 100, 20 / 100)
    large = np.zeros((200, 300), np.uint8)
    cv2.fillPoly(large, [np.round(points * 10).astype(np.int32)], 1)
    assert np.array_equal(large[5::10, 5::10], pixels)


def test_as_many_results_as_tasks_whatever_fails(client, caplog):
    places = [
        "/data/upload/7/a.png",
        "/missing.png",
        "s3://bucket/a.png",
        "http://127.0.0.1:1/data/a.png",
        "file:///etc/passwd",
        "//evil/data/a.png",
        "http://127.0.0.1@evil/data/a.png",
        "http://[",
        "data/a.png",
        "",
        "/away.png",
        "/moved.png",
    ]
    results = predict(client, [{"id": number, "data": {"photo": place}} for number, place in enumerate(places)])
    assert [bool(result["result"]) for result in results] == [True] + [False] * 10 + [True]
    assert all(result["model_version"] for result in results)
    assert "task 1: " in caplog.text and "answered 404" in caplog.text and "not an image of" in caplog.text
    assert [bool(one["result"]) for one in predict(client, [{"id": 1, "data": {}}, {"id": 2}])] == [False, False]


def test_a_place_is_always_fetched_from_the_configured_host():
    images = LabelStudioImages("https://ls.example/sub/", "", Limits())
    assert images.locate("/data/upload/a b.png") == "https://ls.example/sub/data/upload/a%20b.png"
    assert images.locate("/sub/data/a.png") == "https://ls.example/sub/data/a.png"
    assert images.locate("https://LS.example:443/data/a.png") == "https://ls.example/sub/data/a.png"
    assert images.locate("/data/local-files/?d=a/b.png") == "https://ls.example/sub/data/local-files/?d=a/b.png"
    for place in ("http://ls.example/a", "https://ls.example:444/a", "https://ls.example.evil/a", "\\\\evil/a", "a"):
        with pytest.raises(Refused, match="not an image of"):
            images.locate(place)
    with pytest.raises(Refused, match="set LABEL_STUDIO_URL"):
        LabelStudioImages("", "", Limits()).locate("/data/a.png")


@pytest.mark.parametrize(("key", "words"), [("", "does not accept the token"), ("bad", "set LABEL_STUDIO_API_KEY")])
def test_a_refused_token_names_the_remedy(studio, key, words):
    with pytest.raises(Refused, match=words):
        LabelStudioImages(studio, key, Limits()).fetch("/data/a.png")


def test_a_personal_token_is_exchanged_once(studio):
    images = LabelStudioImages(studio, JWT, Limits())
    MadeLabelStudio.seen.clear()
    assert images.fetch("/data/a.png") == images.fetch("/data/a.png") == CONTENT
    assert [path for path, _ in MadeLabelStudio.seen] == ["/ls/api/token/refresh", "/ls/data/a.png", "/ls/data/a.png"]
    with pytest.raises(Refused, match="does not accept the token"):
        LabelStudioImages(studio, "a.b.c", Limits()).fetch("/data/a.png")
    with pytest.raises(Refused, match="more than 9 bytes"):
        LabelStudioImages(studio, "good", Limits(max_body_mb=9 / 2**20)).fetch("/data/a.png")


def test_label_studios_own_token_is_used_if_none_is_set(studio):
    with serving(app={"label_studio_url": studio}) as client:
        tasks = [{"id": 1, "data": {"photo": "/data/a.png"}}]
        assert predict(client, tasks)[0]["result"] == []
        for token in ("old", "good"):  # the latest one
            client.post("/setup", json={"schema": BRUSH, "access_token": token})
        assert predict(client, tasks)[0]["result"]


def test_a_repeated_request_joins_the_first(studio):
    backend = Held()
    with serving(Predictor(backend), app={"label_studio_url": studio, "label_studio_key": "good"}) as client:
        backend.go.clear()
        computed, results = len(backend.batches), []
        tasks = [{"id": 1, "data": {"photo": "/data/a.png"}}]
        threads = [threading.Thread(target=lambda: results.append(predict(client, tasks))) for _ in range(2)]
        for thread in threads:
            thread.start()
        while len(backend.batches) == computed:
            time.sleep(0.005)
        time.sleep(0.05)
        backend.go.set()
        for thread in threads:
            thread.join()
        assert results[0] == results[1] and len(backend.batches) == computed + 1


def test_tasks_after_a_reload_get_the_labels_of_the_new_classes(studio):
    class Renamed(Brightness):
        classes = Classes.from_names(["bright", "dark", "absent"])

    def bright_pixels(result):
        (region,) = (region for region in result["result"] if region["value"]["brushlabels"] == ["Bright"])
        return decode_brush(region["value"]["rle"], height=20, width=30, where=WHERE)

    backend = Held()
    keys = {"label_studio_url": studio, "label_studio_key": "good"}
    with serving(Predictor(backend), app=keys) as client, ThreadPoolExecutor(2) as pool:
        client.load.append(Predictor(Renamed()))
        backend.go.clear()
        computed = len(backend.batches)
        tasks = [{"id": number, "data": {"photo": "/data/a.png"}} for number in (1, 2)]
        asked = pool.submit(predict, client, tasks)
        while len(backend.batches) == computed:
            time.sleep(0.005)
        reload = pool.submit(client.portal.call, client.service.reload, "m0", "1")
        while client.service.engines["m0"].path == "0":
            time.sleep(0.005)
        backend.go.set()
        before, after = map(bright_pixels, asked.result())
        reload.result()
    bright = PIXELS[..., 0] > 127
    assert np.array_equal(before, bright) and np.array_equal(after, ~bright)


def test_webhooks_count_annotations_by_id(client):
    def post(action, number=None, **more):
        one = {} if number is None else {"annotation": {"id": number, "result": []}}
        return client.post("/webhook", json={"action": action, "project": {"id": 7}, **one, **more})

    assert post("ANNOTATION_CREATED", 1).status_code == 201
    post("ANNOTATION_CREATED", 2)
    assert post("ANNOTATION_UPDATED", 1).json() == {"result": {"annotations": 2}, "status": "ok"}
    assert post("ANNOTATION_DELETED", 1).json()["result"] == {"annotations": 1}
    post("ANNOTATIONS_CREATED", annotation=[{"id": 5}, {"id": 6}])
    assert (
        post("ANNOTATIONS_DELETED", annotations=[{"id": 5}, {"id": 6}, {"id": 7}]).json()["result"]["annotations"] == 1
    )
    started = client.post("/webhook", json={"action": "START_TRAINING", "project": {}})
    assert started.status_code == 201 and "--train-after" in started.json()["result"]
    unknown = client.post("/webhook", json={"action": "PROJECT_UPDATED"})
    assert (unknown.status_code, unknown.json()) == (200, {"status": "Unknown event"})
    assert "pyramidseg_annotations 1.0" in client.get("/metrics").text
    assert client.post("/webhook", content=b"{").status_code == 400


def test_its_health(client):
    for path in ("/health", "/"):
        found = client.get(path).json()
        assert (found["status"], found["model_class"]) == ("UP", "PyramidSeg")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("<View/>", "needs BrushLabels or PolygonLabels"),
        ("<View>", "not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View>&b;</View>', "DOCTYPE"),
        ('<View><Text name="t" value="$t"/><BrushLabels name="b" toName="t"/></View>', "for an Image"),
    ],
)
def test_configurations_that_cannot_be_used(client, config, words):
    for path, key in (("/setup", "schema"), ("/validate", "config")):
        answer = client.post(path, json={key: config})
        assert answer.status_code == 400 and words in answer.json()["error"]


def test_labels_of_classes():
    config = """<View><Image name="i" value="$image"/>
      <BrushLabels name="b" toName="i"><Label value="ROAD"/>
      <Label value="Cars" predicted_values="car,truck"/></BrushLabels>
      <PolygonLabels name="p" toName="i"><Label value="road"/><Label value="sky"/></PolygonLabels></View>"""
    brush, polygon = read_controls(config, Classes.from_names(["road", "car", "truck", "sky"]))
    assert brush.labels == {0: "ROAD", 1: "Cars", 2: "Cars"} and polygon.labels == {3: "sky"}
    assert brush.unused == polygon.unused == []
    other = config.replace("<Image", '<Image name="before" value="$before"/><Image').replace(
        'p" toName="i', 'p" toName="before'
    )
    assert [control.from_name for control in read_controls(other, Classes.from_names(["road", "sky"]))] == ["b"]
