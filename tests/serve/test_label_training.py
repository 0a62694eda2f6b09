"""Training after annotations: what is counted, when it begins, what it trains on, and which bundle is served."""

import asyncio
import json
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from made_backends import Brightness
from made_server import png, small_bundle
from pyramidseg.annotations.brush_rle import encode_brush
from pyramidseg.base.errors import ConfigError, WeightsError
from pyramidseg.base.overrides import load_config
from pyramidseg.cli.main import main
from pyramidseg.demo.scenes import draw_scene
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predictor import Predictor
from pyramidseg.serve import label_training
from pyramidseg.serve.app import make_app
from pyramidseg.serve.label_studio_backend import LabelEvent
from pyramidseg.serve.label_training import LabelTraining, train_and_compare, train_round
from pyramidseg.serve.limits import Limits
from pyramidseg.serve.service import Service
from support import process_environment

SIDE = 48


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return str(small_bundle(tmp_path_factory.mktemp("bundle") / "given.safetensors"))


def event(action, ids=(), project=7):
    some = [{"id": number} for number in ids]
    return LabelEvent.model_validate({"action": action, "annotations": some, "project": {"id": project}})


def made(*ids, project=7):
    return event("ANNOTATION_CREATED", ids, project)


def content(folder):
    return json.loads((folder / "state.json").read_text())


def test_annotations_are_counted_once_and_survive_a_restart(bundle, tmp_path):
    training = LabelTraining(tmp_path / "loop", after=3, model=bundle)
    training.receive(made(11, 12))
    training.receive(event("ANNOTATION_UPDATED", (12,)))
    training.receive(made(13, 14, project=9))
    training.receive(event("ANNOTATIONS_DELETED", (11, 14, 99)))
    again = LabelTraining(tmp_path / "loop", after=3, model=bundle)
    assert sorted(again.state.annotations) == [12, 13] and again.state.projects == (7, 9)
    assert again.state.bundle == bundle and not again.state.running


def test_another_bundle_takes_the_place_of_one_that_was_trained(bundle, tmp_path, caplog):
    training = LabelTraining(tmp_path, after=1, model=bundle)
    trained = small_bundle(tmp_path / "trained.safetensors", seed=5)
    training._change(bundle=str(trained), round=4, running=True, projects=(7,))
    kept = LabelTraining(tmp_path, after=1, model=bundle).state
    assert (kept.bundle, kept.round, kept.running) == (str(trained), 4, True)
    other = str(small_bundle(tmp_path / "other.safetensors", seed=6))
    state = LabelTraining(tmp_path, after=1, model=other).state
    assert (state.bundle, state.round, state.running, state.projects) == (other, 4, False, (7,))
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(ConfigError, match=r"state\.json: cannot be read.*choose another `train_in`"):
        LabelTraining(tmp_path, after=1, model=bundle)


class Reloading:
    """Stands in for the service."""

    def __init__(self):
        self.paths = []

    async def reload(self, name, path):
        self.paths.append(path)
        if "damaged" in path:
            raise WeightsError("damaged")


def run_until(training, service, verdicts):
    """Runs it with these verdicts of the subprocess; an exception ends it. Returns the rounds that were begun."""
    begun = []

    async def train(place):
        begun.append((training.state.round, training.state.running, training.state.annotations))
        if len(begun) == 1:
            training.receive(made(100, 101))  # people go on while it trains
        verdict = verdicts[len(begun) - 1]
        if isinstance(verdict, BaseException):
            raise verdict
        return verdict

    training._train = train

    async def main():
        with pytest.raises((asyncio.CancelledError, TimeoutError)):
            await asyncio.wait_for(training.run(service, "street"), 0.2)

    asyncio.run(main())
    return begun


def test_one_training_at_a_time_and_only_what_is_not_worse_is_served(bundle, tmp_path, caplog):
    training, service = LabelTraining(tmp_path, after=2, model=bundle), Reloading()
    training.receive(made(1))
    assert run_until(training, service, []) == []
    training = LabelTraining(tmp_path, after=2, model=bundle)
    training.receive(made(2))
    verdicts = [
        {"accepted": False, "bundle": "worse", "reason": "worse"},
        {"accepted": True, "bundle": "new", "reason": "better"},
    ]
    assert run_until(training, service, verdicts) == [(1, True, ()), (2, True, ())]
    assert service.paths == ["new"] and content(tmp_path)["bundle"] == "new" and not content(tmp_path)["running"]


@pytest.mark.parametrize(
    "verdict", [ConfigError("status 2: error"), {"accepted": True, "bundle": "damaged", "reason": ""}]
)
def test_a_failed_training_leaves_the_bundle_and_does_not_repeat(bundle, tmp_path, caplog, verdict):
    training, service = LabelTraining(tmp_path, after=3, model=bundle), Reloading()
    training.receive(event("START_TRAINING"))
    assert run_until(training, service, [verdict]) == [(1, True, ())]
    assert content(tmp_path)["bundle"] == bundle and "stays" in caplog.text
    assert sorted(content(tmp_path)["annotations"]) == [100, 101]


def test_an_interrupted_training_is_continued_by_the_next_server(bundle, tmp_path):
    training = LabelTraining(tmp_path, after=1, model=bundle)
    training.receive(made(1))
    run_until(training, Reloading(), [asyncio.CancelledError()])
    assert content(tmp_path)["running"]
    (tmp_path / "state.json").write_text(json.dumps(content(tmp_path) | {"annotations": []}))
    again = LabelTraining(tmp_path, after=9, model=bundle)
    assert run_until(again, Reloading(), [{"accepted": False, "bundle": "", "reason": ""}]) == [(1, True, ())]


def test_webhooks_begin_it(bundle, tmp_path):
    training = LabelTraining(tmp_path, after=2, model=bundle)
    begun = threading.Event()

    async def train(place):
        assert place == tmp_path / "round_1"
        begun.set()
        return {"accepted": False, "bundle": "", "reason": "worse"}

    training._train = train
    service = Service({"m0": ""}, lambda path: Predictor(Brightness()), limits=Limits())
    service.background.append(lambda: training.run(service, "m0"))
    with TestClient(make_app(service, receive=training.receive)) as client:
        for number, project in ((1, 7), (1, 7)):
            event = {"action": "ANNOTATION_UPDATED", "annotation": {"id": number}, "project": {"id": project}}
            assert client.post("/webhook", json=event).status_code == 201
        assert not begun.wait(0.1) and training.state.annotations == (1,)
        client.post("/webhook", json={"action": "START_TRAINING", "project": {"id": 7}})
        assert begun.wait(5) and training.state.round == 1


CONFIG = """<View><Image name="i" value="$photo"/><BrushLabels name="b" toName="i"><Label value="road" alias="ROAD"/>
  <Label value="forest" alias="Wood" predicted_values="tree"/><Label value="water"/></BrushLabels></View>"""
CLASSES = ("background", "road", "tree")


def label_of(number):
    """(H, W) labels of a task: a stripe each of road, wood and water, the rest nothing."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    labels[number : number + 9], labels[30:39], labels[41:44] = 1, 2, 3
    return labels


def made_task(number):
    names, regions = ("ROAD", "Wood", "water"), []
    for value, name in enumerate(names, start=1):
        rle = encode_brush(label_of(number) == value)
        size = {"original_width": SIDE, "original_height": SIDE, "image_rotation": 0}
        regions.append(
            {"id": name, "type": "brushlabels", **size, "value": {"format": "rle", "rle": rle, "brushlabels": [name]}}
        )
    annotation = {"id": 100 + number, "completed_by": 1, "result": regions}
    return {
        "id": number,
        "data": {"photo": f"/data/upload/7/{number}%20a.png"},
        "annotations": [annotation],
        "predictions": [],
    }


class MadeLabelStudio(BaseHTTPRequestHandler):
    config = CONFIG

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        assert self.headers["Authorization"] == "Token good"
        answers = {
            "/api/projects/7": json.dumps({"label_config": self.config}).encode(),
            "/api/projects/7/export?exportType=JSON": json.dumps(
                [made_task(number) for number in range(1, 11)]
            ).encode(),
        }
        body = answers.get(self.path) or png(
            draw_scene(int(self.path.rpartition("/")[2].split("%")[0]), height=SIDE, width=SIDE).image
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def studio(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), MadeLabelStudio)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("LABEL_STUDIO_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "good")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def street(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "street.safetensors"
    Segmenter(classes=CLASSES, encoder="test_resnet", encoder_weights="none", pyramid_channels=16).eval().save(path)
    return str(path)


@pytest.mark.usefixtures("studio")
def test_a_round_trains_on_the_annotations_and_compares(street, tmp_path):
    folder = tmp_path / "loop"
    folder.mkdir()
    settings = "train: {epochs: 2, batch_size: 4, device: cpu}\ndata: {crop: 32, workers: 0, annotator: '1'}\n"
    (folder / "config.yaml").write_text(settings)
    assert train_round(folder / "round_1", street, ["7"]) == 0
    data = folder / "round_1" / "data"
    for number in range(1, 11):
        split = "val" if number in (5, 10) else "train"
        labels = np.array(Image.open(data / split / "masks" / f"{number}.png"))
        assert (labels == np.array([0, 1, 2, 255])[label_of(number)]).all()
        with Image.open(data / split / "images" / f"{number}.png") as image:
            assert (np.array(image) == draw_scene(number, height=SIDE, width=SIDE).image).all()
    verdict = json.loads((folder / "round_1" / "verdict.json").read_text())
    assert verdict["bundle"] == str(folder / "round_1" / "run" / "last.safetensors")
    assert verdict["accepted"] == (verdict["miou"]["new"] >= verdict["miou"]["served"])
    assert Segmenter.load(verdict["bundle"]).classes.names == CLASSES
    before = Path(verdict["bundle"]).read_bytes()
    (folder / "round_1" / "verdict.json").unlink()
    assert train_round(folder / "round_1", street, ["7"]) == 0  # as a server does that was restarted
    assert json.loads((folder / "round_1" / "verdict.json").read_text()) == verdict
    assert Path(verdict["bundle"]).read_bytes() == before


def test_it_ends_with_the_server(street, tmp_path):
    """A server that is killed closes the pipe; this Label Studio never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-m", "pyramidseg.serve.label_training", tmp_path / "round_1", street, "7"],
            stdin=subprocess.PIPE,
            env=process_environment() | {"LABEL_STUDIO_URL": url},
        )
        silent.settimeout(100)
        with silent.accept()[0]:
            assert process.poll() is None
            process.stdin.close()
            assert process.wait(20) == 130


@pytest.mark.usefixtures("studio")
def test_a_label_of_two_classes_is_refused(street, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(MadeLabelStudio, "config", CONFIG.replace('"tree"', '"tree, road"'))
    assert train_round(tmp_path / "loop" / "round_1", street, ["7"]) == 2
    assert "label 'Wood' stands for road and tree: give each class a label of its own" in capsys.readouterr().out


@pytest.mark.parametrize(("new", "served", "accepted"), [(1, 2, True), (2, 1, False), (1, 1, True)])
def test_only_a_bundle_that_is_not_worse_is_accepted(new, served, accepted, tmp_path, monkeypatch):
    """The truth is what the first bundle predicts."""
    bundles = {seed: small_bundle(tmp_path / f"{seed}.safetensors", seed=seed) for seed in (1, 2)}
    oracle = Predictor(bundles[1], device="cpu")
    for split, numbers in (("train", (0,)), ("val", range(1, 7))):
        for number in numbers:
            image = draw_scene(number, height=SIDE, width=SIDE).image
            for part, pixels in (("images", image), ("masks", oracle.predict(image).labels)):
                path = tmp_path / "round" / "data" / split / part / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(png(pixels))
    (tmp_path / "round" / "data" / "dataset.yaml").write_text(json.dumps({"classes": list(oracle.classes.names)}))

    class Trained:
        last = bundles[new]

    monkeypatch.setattr(label_training, "train_segmentation", lambda *arguments, **options: Trained)
    config = load_config(None, {"train.device": "cpu"})
    verdict = train_and_compare(config, tmp_path / "round", str(bundles[served]))
    assert verdict["accepted"] is accepted and verdict["miou"]["new" if new == 1 else "served"] == 1
    assert ("not served" in verdict["reason"]) is not accepted


@pytest.mark.parametrize(
    ("words", "url", "message"),
    [
        (["--train-after", "3"], "http://ls", "--train-in DIR belong together"),
        (["--train-in", "loop"], "http://ls", "--train-in DIR belong together"),
        (["--train-after", "0", "--train-in", "loop"], "http://ls", "1 or more"),
        (["--train-after", "0"], "http://ls", "1 or more"),
        (["--train-after", "3", "--train-in", "loop"], "", "set LABEL_STUDIO_URL"),
    ],
)
def test_what_it_needs_is_said(words, url, message, bundle, monkeypatch, capsys):
    monkeypatch.setenv("LABEL_STUDIO_URL", url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "key")
    assert main(["serve", bundle, *words]) == 2
    assert message in capsys.readouterr().err


def test_it_needs_a_bundle(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://ls")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "key")
    assert main(["serve", str(tmp_path / "m.onnx"), "--train-after", "3", "--train-in", "loop"]) == 2
    assert "m.onnx: the first model has to be a bundle" in capsys.readouterr().err
