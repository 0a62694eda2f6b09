"""Sources and outputs behind URLs, in fsspec's file system in memory; tests/clients/remote has an S3 server."""

import json
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

import pyramidseg as ps
from made_backends import Brightness
from pyramidseg.base.errors import ConfigError, DataError, MissingExtra, OutputError, WeightsError
from pyramidseg.base.overrides import load_config
from pyramidseg.base.remote_files import fetch, is_url, list_remote, remote_info, upload
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.sources import images_of
from pyramidseg.predict.summary_file import merge_predictions
from pyramidseg.training.initial_weights import adopt_bundle_settings, build_model

MEMORY = fsspec.filesystem("memory")


@pytest.fixture
def bucket(tmp_path):
    """Two images, a text file, and a damaged image."""
    for name in ("a.png", "deep/b.png"):
        Image.new("RGB", (5, 4), (200, 200, 200)).save(tmp_path / "image.png")
        MEMORY.pipe(f"/bucket/in/{name}", (tmp_path / "image.png").read_bytes())
    MEMORY.pipe("/bucket/in/notes.txt", b"no image")
    MEMORY.pipe("/bucket/in/bad.png", b"no image")
    yield "memory://bucket"
    MEMORY.rm("/bucket", recursive=True)


def predict(source, out, **options):
    backend = Brightness()
    summary = predict_files(Predictor(backend), [source], out, **options)
    return len(backend.batches), summary


def merged(out):
    summary = merge_predictions(out)
    return summary.images, len(summary.failed)


def names(folder):
    return sorted(name.removeprefix(f"{folder}/") for name in MEMORY.find(folder) if "/ledger/" not in name)


def test_images_below_a_url_are_predicted_and_errors_name_the_url(bucket, tmp_path):
    computed, summary = predict(f"{bucket}/in", tmp_path / "out")
    assert computed == 1  # a batch of two
    (failed,) = summary.failed
    assert failed["error"].startswith("memory://bucket/in/bad.png: is not an image")
    entries = json.loads((tmp_path / "out/predictions.json").read_text())["images"]
    assert [entry["image"] for entry in entries] == [
        f"{bucket}/in/{name}" for name in ("a.png", "bad.png", "deep/b.png")
    ]
    assert (np.asarray(Image.open(tmp_path / "out/deep/b.png")) == 1).all()
    MEMORY.rm("/bucket/in/bad.png")
    assert predict(f"{bucket}/in", tmp_path / "out")[0] == 0


def test_outputs_and_ledger_behind_a_url(bucket, tmp_path):
    out = f"{bucket}/out"
    predict(f"{bucket}/in", out)
    assert names("/bucket/out") == ["a.png", "deep/b.png", "predictions.json"]
    predict(f"{bucket}/in", tmp_path / "local")
    for name in names("/bucket/out"):
        assert MEMORY.cat(f"/bucket/out/{name}") == (tmp_path / "local" / name).read_bytes()
    computed, summary = predict(f"{bucket}/in", out)
    assert (computed, summary.unchanged) == (0, 2)
    MEMORY.rm("/bucket/out/a.png")
    MEMORY.pipe("/bucket/out/deep/b.png", MEMORY.cat("/bucket/out/deep/b.png")[:-20])
    computed, summary = predict(f"{bucket}/in", out)
    assert (computed, summary.unchanged) == (1, 0)
    assert MEMORY.cat("/bucket/out/deep/b.png") == (tmp_path / "local/deep/b.png").read_bytes()


def test_a_changed_remote_source_is_predicted_again(bucket, tmp_path):
    predict(f"{bucket}/in/a.png", tmp_path / "out")
    MEMORY.pipe("/bucket/in/a.png", MEMORY.cat("/bucket/in/a.png"))
    assert predict(f"{bucket}/in/a.png", tmp_path / "out")[0] == 1


def test_shards_share_a_remote_folder(bucket, tmp_path):
    for number in (1, 2):
        predict(f"{bucket}/in", f"{bucket}/out", shard=f"{number}/2")
    assert names("/bucket/out") == ["a.png", "deep/b.png"]
    assert merged(f"{bucket}/out") == (3, 1)
    predict(f"{bucket}/in", tmp_path / "local")
    assert MEMORY.cat("/bucket/out/predictions.json") == (tmp_path / "local/predictions.json").read_bytes()


def test_outputs_within_the_source_are_left_out(bucket):
    predict(f"{bucket}/in", f"{bucket}/in/out")
    assert len([*images_of(f"{bucket}/in", outside=f"{bucket}/in/out", skipped=[])]) == 3


def test_patterns_and_lists_of_urls(bucket, tmp_path):
    found = images_of(f"{bucket}/in/**/*.png", outside=tmp_path, skipped=[])
    assert [source.stem for source in found] == ["a", "bad", "deep/b"]
    (tmp_path / "list.txt").write_text(f"{bucket}/in/a.png\n{bucket}/in/gone.png\n")
    summary = predict(tmp_path / "list.txt", tmp_path / "out")[1]
    assert (tmp_path / "out/bucket/in/a.png").is_file()
    assert [entry["error"] for entry in summary.failed] == [f"{bucket}/in/gone.png: no such file, folder or bucket"]


def test_a_foreign_remote_file_is_not_overwritten(bucket):
    MEMORY.pipe("/bucket/out/a.png", MEMORY.cat("/bucket/in/a.png"))
    with pytest.raises(OutputError, match=r"memory://bucket/out/a\.png: exists and was not written"):
        predict(f"{bucket}/in/a.png", f"{bucket}/out")


def test_a_url_without_images_is_refused(bucket):
    with pytest.raises(DataError, match="no images there"):
        list(images_of(f"{bucket}/empty", outside="out", skipped=[]))


def test_a_refused_upload_is_one_line_and_the_ledger_has_no_entry(bucket, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(type(MEMORY), "put_file", refuse)
    with pytest.raises(OutputError, match=r"memory://bucket/out/a\.png: cannot be written: Access Denied; check"):
        predict(f"{bucket}/in/a.png", f"{bucket}/out")


@pytest.mark.parametrize(
    ("name", "answer"),
    [("s3://b/k", True), ("https://x/y.png", True), ("C:\\a.png", False), ("a/b.png", False), ("s3:/b", False)],
)
def test_urls_are_told_from_paths(name, answer):
    assert is_url(name) is answer


@pytest.mark.parametrize(("url", "library"), [("s3://bucket/a.png", "s3fs"), ("https://host/a.png", "aiohttp")])
def test_a_missing_package_names_the_extra(url, library, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    fsspec.registry._registry.clear() if hasattr(fsspec.registry, "_registry") else None
    with pytest.raises(MissingExtra, match=rf"needs {library}.*pyramidseg\[remote\]"):
        fetch(url, tmp_path / "x")


def test_an_unknown_protocol_is_one_line(tmp_path):
    with pytest.raises(DataError, match=r"nonsense://a/b\.png: cannot be read: Protocol not known"):
        fetch("nonsense://a/b.png", tmp_path / "x")


def test_files_are_uploaded_listed_and_fetched(bucket, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"123")
    assert upload(tmp_path / "x.bin", f"{bucket}/up/x.bin").size == 3
    assert [file.url for file in list_remote(f"{bucket}/up")] == [f"{bucket}/up/x.bin"]
    assert remote_info(f"{bucket}/up/x.bin").size == 3
    assert remote_info(f"{bucket}/up/y.bin") is None
    assert fetch(f"{bucket}/up/x.bin", tmp_path / "y.bin").read_bytes() == b"123"


BUNDLE = Path(__file__).parents[1] / "compatibility" / "files" / "trained.safetensors"


@pytest.fixture
def remote_bundle():
    MEMORY.pipe("/models/m.safetensors", BUNDLE.read_bytes())
    yield "memory://models/m.safetensors"
    MEMORY.rm("/models", recursive=True)


@pytest.mark.parametrize("cached", [True, False])
def test_a_model_behind_a_url_is_copied_once_until_it_changes(remote_bundle, tmp_path, monkeypatch, cached):
    monkeypatch.setenv("PYRAMIDSEG_CACHE", str(tmp_path / "cache") if cached else "off")
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    expected = Predictor(BUNDLE, device="cpu").predict(image).labels
    copies = []
    monkeypatch.setattr("pyramidseg.base.remote_files.fetch", lambda url, to: copies.append(url) or fetch(url, to))
    for _ in range(2):
        assert (Predictor(remote_bundle, device="cpu").predict(image).labels == expected).all()
        assert ps.load_model(remote_bundle).classes == ps.load_model(BUNDLE).classes
    assert copies == [remote_bundle]
    MEMORY.pipe("/models/m.safetensors", b"damaged")
    with pytest.raises(WeightsError, match=r"m\.safetensors"):
        ps.load_model(remote_bundle)
    assert len(copies) == 2
    with pytest.raises(DataError, match=r"memory://models/absent\.safetensors: no such file"):
        Predictor("memory://models/absent.safetensors")


def test_training_starts_from_a_model_behind_a_url(remote_bundle, monkeypatch):
    monkeypatch.setenv("PYRAMIDSEG_CACHE", "off")
    config, note = adopt_bundle_settings(load_config(overrides={"model.weights": remote_bundle}))
    assert "encoder=" in note
    model, note = build_model(config, ps.load_model(BUNDLE).classes)
    assert f"weights {remote_bundle}" in note
    expected = ps.load_model(BUNDLE).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_an_export_of_a_model_behind_a_url_needs_a_folder(remote_bundle):
    with pytest.raises(ConfigError, match=r"a URL needs `out=DIR`"):
        ps.export_model(remote_bundle, format="onnx")
