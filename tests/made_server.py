"""Servers for tests: a model without a network, and one that waits until it may go on."""

import io
import re
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from fastapi.testclient import TestClient
from PIL import Image

from forks import PythonProcess
from made_backends import Brightness
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predictor import Predictor
from pyramidseg.serve.app import make_app
from pyramidseg.serve.limits import Limits
from pyramidseg.serve.service import Service
from support import process_environment


class Held(Brightness):
    """Waits, while an image is computed, until `go` is set."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.go.set()

    def coarse_logits(self, images):
        logits = super().coarse_logits(images)
        assert self.go.wait(20)
        return logits


@contextmanager
def serving(*predictors: Predictor, token=None, ready=True, app=(), **limits) -> Iterator[TestClient]:
    """A client of a server of models `m0`, `m1`, ...; `client.service` is its service.

    `client.load` has what the paths `0`, `1`, ... load: predictors, or errors.
    """
    predictors = list(predictors or (Predictor(Brightness()),))

    def load(path):
        if isinstance(predictors[int(path)], Exception):
            raise predictors[int(path)]
        return predictors[int(path)]

    paths = {f"m{number}": str(number) for number in range(len(predictors))}
    service = Service(paths, load, limits=Limits(**limits))
    with TestClient(make_app(service, token=token, **dict(app)), raise_server_exceptions=False) as client:
        while ready and not service.ready:
            time.sleep(0.005)
        client.service, client.load = service, predictors
        yield client


def noise(height=20, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def read(content):
    return np.array(Image.open(io.BytesIO(content)))


def small_bundle(path, seed=0, names=("class 0", "class 1", "class 2")):
    torch.manual_seed(seed)
    Segmenter(classes=names, encoder="test_resnet", encoder_weights="none", pyramid_channels=16).eval().save(path)
    return path


@contextmanager
def server_process(*arguments, environment=(), wait=True):
    """`pyramidseg serve` on a free port; yields its URL once it is ready, and the `PythonProcess`."""
    words = ("-m", "pyramidseg", "serve", *arguments, "--port", "0")
    with PythonProcess(*words, environment=process_environment() | dict(environment)) as process:
        try:
            while not (line := re.search(r"^serving .* on (\S+)\n", process.output(), re.M)):
                assert not process.has_ended(), process.errors()
                time.sleep(0.02)
            while wait:
                try:
                    urllib.request.urlopen(f"{line[1]}/health/ready", timeout=5).read()
                    break
                except urllib.error.HTTPError:
                    time.sleep(0.05)
            yield line[1], process
        finally:
            process.send(signal.SIGTERM, workers=False)
            process.wait(40)
            errors = process.errors()
    assert "Traceback" not in errors, errors
