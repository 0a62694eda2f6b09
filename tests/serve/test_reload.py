"""A model is replaced while the server answers: verified and warm before the switch, and no request is lost."""

import json
import shutil
import signal
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pyramidseg as ps
from made_backends import Brightness
from made_server import Held, noise, png, read, server_process, serving, small_bundle
from pyramidseg.base.errors import DataError, WeightsError
from pyramidseg.predict.predictor import Predictor

PIXELS = noise()
CONTENT = png(PIXELS)
BRIGHT = PIXELS[..., 0] > 127


class Inverted(Brightness):
    def coarse_logits(self, images):
        return super().coarse_logits(images)[:, [1, 0, 2]]


class Broken(Brightness):
    def coarse_logits(self, images):
        return super().coarse_logits(images) * float("nan")


def labels(client):
    answer = client.post("/segment?format=labels", content=CONTENT)
    assert answer.status_code == 200, answer.text
    return read(answer.content)


def reloads(client):
    lines = client.get("/metrics").text.splitlines()
    return {
        line.split('"')[1]: float(line.split()[-1]) for line in lines if line.startswith("pyramidseg_reloads_total{")
    }


def test_no_request_is_lost_while_models_are_replaced():
    predictors = [Predictor(Brightness()), Predictor(Inverted())]
    with serving(predictors[0]) as client:
        client.load[:] = predictors
        stop, found = threading.Event(), []

        def ask():
            while not stop.is_set():
                found.append(labels(client))

        with ThreadPoolExecutor(4) as pool:
            asking = [pool.submit(ask) for _ in range(4)]
            for number in range(10):
                client.portal.call(client.service.reload, "m0", str((number + 1) % 2))
                expected = BRIGHT if number % 2 else ~BRIGHT
                assert np.array_equal(labels(client), expected), number  # asked after the switch
            stop.set()
            for one in asking:
                one.result()
        assert {np.array_equal(one, BRIGHT) for one in found} == {True, False}
        assert all(np.array_equal(one, BRIGHT) or np.array_equal(one, ~BRIGHT) for one in found)
        assert reloads(client) == {"done": 10} and client.service.admission.requests == 0
        assert threading.active_count() < 30


def test_requests_that_were_admitted_before_are_answered_by_the_old_model():
    old = Held()
    with serving(Predictor(old)) as client, ThreadPoolExecutor(2) as pool:
        client.load.append(Predictor(Inverted()))
        old.go.clear()
        first = pool.submit(labels, client)
        while client.service.admission.requests < 1:
            time.sleep(0.005)
        reload = pool.submit(client.portal.call, client.service.reload, "m0", "1")
        while reloads(client) != {"done": 1}:
            time.sleep(0.005)
        assert np.array_equal(labels(client), ~BRIGHT) and not reload.done()
        old.go.set()
        assert np.array_equal(first.result(), BRIGHT) and reload.result().name == "m0"


@pytest.mark.parametrize("path", ["none", "broken"])
def test_a_model_that_cannot_be_loaded_or_computes_nothing_is_refused(path):
    with serving(Predictor(Brightness())) as client:
        client.load.append(Predictor(Broken()))
        if path == "none":
            client.load[1] = DataError("no such file")
        with pytest.raises(DataError, match="no such file" if path == "none" else "finite"):
            client.portal.call(client.service.reload, "m0", "1")
        assert np.array_equal(labels(client), BRIGHT) and client.service.ready
        assert reloads(client) == {"refused": 1} and client.service.engines["m0"].path == "0"


def test_a_signal_reloads_the_file_and_a_damaged_one_is_refused(tmp_path):
    bundle, names = small_bundle(tmp_path / "street.safetensors"), ["road", "sky", "tree", "wall"]
    other = small_bundle(tmp_path / "other.safetensors", seed=1, names=names)
    with server_process(bundle, "--device", "cpu") as (url, process):

        def digest():
            return json.load(urllib.request.urlopen(f"{url}/models", timeout=20))[0]["digest"]

        def reloaded(result, number):
            process.send(signal.SIGHUP, workers=False)
            wanted = f'pyramidseg_reloads_total{{result="{result}"}} {number}.0'
            while wanted not in urllib.request.urlopen(f"{url}/metrics", timeout=20).read().decode():
                time.sleep(0.02)

        client, first = ps.Client(url), digest()
        assert np.array_equal(client.predict(PIXELS).labels, ps.Predictor(bundle, device="cpu").predict(PIXELS).labels)
        shutil.copy(other, bundle)
        reloaded("done", 1)
        second = digest()
        assert second != first
        expected = ps.Predictor(other, device="cpu").predict(PIXELS, confidence=True)
        found = client.predict(PIXELS, confidence=True)
        assert np.array_equal(found.labels, expected.labels) and np.array_equal(found.confidence, expected.confidence)
        assert found.classes == client.classes == expected.classes and list(found.classes.names) == names
        content = bytearray(bundle.read_bytes())
        content[-100] ^= 1
        bundle.write_bytes(content)
        with pytest.raises(WeightsError):
            ps.load_model(bundle)
        reloaded("refused", 1)
        assert digest() == second and np.array_equal(client.predict(PIXELS).labels, expected.labels)
