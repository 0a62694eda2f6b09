"""Servers for tests: a model without a network, and one that waits until it may go on."""

import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from made_backends import Brightness
from pyramidseg.predict.predictor import Predictor
from pyramidseg.serve.app import make_app
from pyramidseg.serve.limits import Limits
from pyramidseg.serve.service import ServedModel, Service


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
def serving(*predictors: Predictor, token=None, ready=True, **limits) -> Iterator[TestClient]:
    """A client of a server of models `m0`, `m1`, ...; `client.service` is its service."""
    predictors = predictors or (Predictor(Brightness()),)
    models = [ServedModel.describe(f"m{number}", predictor) for number, predictor in enumerate(predictors)]
    service = Service(models, limits=Limits(**limits))
    with TestClient(make_app(service, token=token), raise_server_exceptions=False) as client:
        while ready and not service.ready:
            time.sleep(0.005)
        client.service = service
        yield client


def noise(height=20, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def read(content):
    return np.array(Image.open(io.BytesIO(content)))
