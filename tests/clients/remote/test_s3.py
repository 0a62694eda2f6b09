"""Prediction from and to S3: a server on this machine (moto), the real client (s3fs), and Parquet (pyarrow)."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("moto", reason="make test-clients")

import s3fs
from moto.server import ThreadedMotoServer
from PIL import Image
from pyarrow import parquet

from made_backends import Brightness
from pyramidseg.base.errors import DataError, OutputError
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.sources import images_of
from pyramidseg.predict.summary_file import merge_predictions

pytestmark = pytest.mark.filterwarnings("default")  # of the libraries


@pytest.fixture(scope="module")
def server():
    started = ThreadedMotoServer(port=0)
    started.start()
    host, port = started.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    yield
    started.stop()


@pytest.fixture
def files(server, tmp_path, request):
    """A client, and a bucket `<test>` with three images."""
    client = s3fs.S3FileSystem()
    bucket = request.node.name.replace("_", "-")[:60].strip("-")
    client.mkdir(bucket)
    for name in ("a.png", "deep/b.png", "deep/c.png"):
        Image.new("RGB", (5, 4), (200, 200, 200)).save(tmp_path / "image.png")
        client.pipe(f"{bucket}/in/{name}", (tmp_path / "image.png").read_bytes())
    return client, f"s3://{bucket}"


def predict(source, out, **options):
    backend = Brightness()
    summary = predict_files(Predictor(backend), [source], out, batch_size=1, **options)
    return len(backend.batches), summary


def test_from_s3_to_s3_and_again(files, tmp_path):
    client, bucket = files
    assert predict(f"{bucket}/in", f"{bucket}/out")[0] == 3
    predict(f"{bucket}/in", tmp_path / "local")
    for name in ("a.png", "deep/b.png", "deep/c.png", "predictions.json"):
        assert client.cat(f"{bucket}/out/{name}") == (tmp_path / "local" / name).read_bytes()
    assert predict(f"{bucket}/in", f"{bucket}/out")[0] == 0
    client.rm(f"{bucket}/out/a.png")
    client.pipe(f"{bucket}/out/deep/b.png", client.cat(f"{bucket}/out/deep/b.png")[:-9])
    client.pipe(f"{bucket}/in/deep/c.png", client.cat(f"{bucket}/in/deep/c.png") + b" ")
    assert predict(f"{bucket}/in", f"{bucket}/out")[0] == 3
    assert predict(f"{bucket}/in", f"{bucket}/out")[0] == 0
    client.pipe(f"{bucket}/out/a.png", b"of another program")
    with pytest.raises(OutputError, match=r"out/a\.png: exists and was not written by pyramidseg"):
        predict(f"{bucket}/in", f"{bucket}/out")


def test_patterns_single_files_and_pixels(files, tmp_path):
    _, bucket = files
    found = images_of(f"{bucket}/in/deep/*.png", outside="out", skipped=[])
    assert [source.stem for source in found] == ["b", "c"]
    predict(f"{bucket}/in/deep/b.png", tmp_path / "out")
    assert (np.asarray(Image.open(tmp_path / "out/b.png")) == np.ones((4, 5))).all()


def test_shards_and_parquet(files, tmp_path):
    client, bucket = files
    client.pipe(f"{bucket}/in/bad.png", b"no image")
    done = [predict(f"{bucket}/in", f"{bucket}/out", shard=f"{number}/3")[0] for number in (1, 2, 3)]
    assert sum(done) == 3
    summary = merge_predictions(f"{bucket}/out", parquet=True)
    assert (summary.images, len(summary.failed)) == (4, 1)
    client.get(f"{bucket}/out/predictions.parquet", str(tmp_path / "p.parquet"))
    rows = parquet.read_table(tmp_path / "p.parquet").to_pylist()
    entries = json.loads(client.cat(f"{bucket}/out/predictions.json"))["images"]
    assert [row["image"] for row in rows] == [entry["image"] for entry in entries]
    assert [dict(row["classes"] or []) for row in rows] == [entry.get("classes", {}) for entry in entries]
    assert [dict(row["outputs"] or []) for row in rows] == [entry.get("outputs", {}) for entry in entries]
    assert [(row["height"], row["error"]) for row in rows] == [
        (entry.get("height"), entry.get("error")) for entry in entries
    ]


def test_a_missing_bucket_is_one_line(server):
    with pytest.raises(DataError, match=r"s3://not-there/in: (no images there|no such file)"):
        list(images_of("s3://not-there/in", outside="out", skipped=[]))


def test_a_bucket_that_refuses_is_one_line(files, tmp_path):
    _, bucket = files
    with pytest.raises((OutputError, DataError), match="s3://not-there-either"):
        predict(f"{bucket}/in", "s3://not-there-either/out")


def test_a_model_in_s3(files, tmp_path, monkeypatch):
    client, bucket = files
    monkeypatch.setenv("PYRAMIDSEG_CACHE", str(tmp_path / "cache"))
    bundle = Path(__file__).parents[2] / "compatibility" / "files" / "trained.safetensors"
    client.pipe(f"{bucket}/model.safetensors", bundle.read_bytes())
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    expected = Predictor(bundle, device="cpu").predict(image).labels
    assert (Predictor(f"{bucket}/model.safetensors", device="cpu").predict(image).labels == expected).all()
    with pytest.raises(DataError, match=r"absent\.safetensors: no such file"):
        Predictor(f"{bucket}/absent.safetensors")
