"""`hf://OWNER/NAME[@REVISION]` as a model, with the real client of the hub against a stand-in on loopback."""

import numpy as np
import pytest

import pyramidseg as ps
from made_hub import made_hub
from made_server import noise, small_bundle
from pyramidseg.base.errors import DataError, WeightsError
from pyramidseg.base.remote_files import local_copy
from pyramidseg.cli.serve import model_names
from pyramidseg.model.bundle import read_description

COMMITS = {"main": "1" * 40, "v2": "2" * 40}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Two commits with a bundle each."""
    with made_hub(tmp_path / "hub", monkeypatch) as hub:
        hub.commits = COMMITS
        for seed, commit in enumerate(COMMITS.values()):
            content = small_bundle(tmp_path / "model.safetensors", seed=seed).read_bytes()
            hub.contents[commit] = {"README.md": b"# card", "best.safetensors": content}
        yield hub


def test_a_bundle_of_a_repository_is_copied_once_for_each_commit(hub, tmp_path):
    contents, asked = hub.contents, hub.asked
    for revision, commit in (("", COMMITS["main"]), ("@v2", COMMITS["v2"])):
        url = f"hf://owner/street{revision}"
        (tmp_path / "own.safetensors").write_bytes(contents[commit]["best.safetensors"])
        expected = ps.Predictor(tmp_path / "own.safetensors", device="cpu").predict(noise())
        assert np.array_equal(ps.Predictor(url, device="cpu").predict(noise()).labels, expected.labels)
        assert local_copy(f"{url}/best.safetensors").read_bytes() == contents[commit]["best.safetensors"]
        assert read_description(url).config.encoder == "test_resnet"
        downloads = [path for method, path in asked if method == "GET" and commit in path and "resolve" in path]
        assert len(downloads) == 1
    (copied,) = {local_copy("hf://owner/street").parent.name}
    assert copied == COMMITS["main"]


def test_a_damaged_bundle_is_not_used(hub):
    contents = hub.contents
    damaged = bytearray(contents[COMMITS["main"]]["best.safetensors"])
    damaged[-100] ^= 1
    contents[COMMITS["main"]]["best.safetensors"] = bytes(damaged)
    with pytest.raises(WeightsError):
        ps.load_model("hf://owner/street")


def test_what_cannot_be_had_is_one_line(hub):
    contents = hub.contents
    with pytest.raises(DataError, match="hf://owner/none: cannot be read"):
        ps.load_model("hf://owner/none")
    contents[COMMITS["main"]]["last.safetensors"] = b""
    with pytest.raises(DataError, match=r"has best\.safetensors, last\.safetensors; write hf://owner/street/FILE"):
        ps.load_model("hf://owner/street")
    contents[COMMITS["main"]] = {"README.md": b""}
    with pytest.raises(DataError, match="the repository has none"):
        ps.load_model("hf://owner/street")


def test_the_server_names_them_by_their_repository():
    assert model_names(["hf://owner/street@v2.1", "night=hf://owner/street"]) == {
        "street": "hf://owner/street@v2.1",
        "night": "hf://owner/street",
    }
