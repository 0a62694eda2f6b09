"""A cluster of this machine; its workers are slow, die at the image `deadly.png`, and wait forever at `endless.png`.

It has a processor more than two workers need, as the one that waits forever keeps its own.
"""

import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ray", reason="make test-clients")

import ray
import torch
from PIL import Image

from pyramidseg.model.segmenter import Segmenter

# Found by every Python of the cluster; every image is looked at before it is opened.
SITE = """
import os, signal, time
plain = os.stat
def stat(path, *rest, **options):
    if isinstance(path, os.PathLike) and path.parent.name == "images":
        if path.name.endswith("deadly.png"):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1e6 if path.name == "endless.png" else 0.05)
    return plain(path, *rest, **options)
os.stat = stat
"""


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(SITE)
    before = os.environ.get("PYTHONPATH", "")
    paths = (str(folder), str(Path(__file__).parents[3] / "src"))
    os.environ |= {"PYTHONPATH": os.pathsep.join(paths), "RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    os.environ["PYTHONPATH"] = before
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    torch.manual_seed(0)
    made = Segmenter(
        num_classes=3, encoder="test_resnet", encoder_weights="none", coarsest_stride=8, pyramid_channels=16
    )
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    made.eval().save(path)
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(40):
        pixels = rng.integers(0, 256, (60, 50 + number % 3, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder
