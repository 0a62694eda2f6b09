"""`hf://OWNER/NAME[@REVISION]` as a model, with the real client of the hub against a stand-in on loopback."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

import pyramidseg as ps
from made_server import noise, small_bundle
from pyramidseg.base.errors import DataError, WeightsError
from pyramidseg.base.remote_files import local_copy
from pyramidseg.cli.serve import model_names
from pyramidseg.model.bundle import read_description

COMMITS = {"main": "1" * 40, "v2": "2" * 40}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Contents by commit and name, and the paths that were asked for."""
    contents: dict[str, dict[str, bytes]] = {}
    asked = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            asked.append((self.command, self.path))
            parts = self.path.strip("/").split("/")
            headers, body = {}, None
            if parts[:4] == ["api", "models", "owner", "street"]:
                commit = COMMITS.get(parts[5] if len(parts) > 4 else "main")
                if commit:
                    siblings = [{"rfilename": name} for name in contents[commit]]
                    body = json.dumps({"id": "owner/street", "sha": commit, "siblings": siblings}).encode()
            elif parts[:3] == ["owner", "street", "resolve"]:
                body = contents[parts[3]].get("/".join(parts[4:]))
                headers = {"X-Repo-Commit": parts[3]}
                headers["ETag"] = f'"{hashlib.sha256(body).hexdigest()}"' if body is not None else '""'
            self.send_response(404 if body is None else 200)
            if body is None:
                headers = {"X-Error-Code": "RepoNotFound"}
            for name, value in (headers | {"Content-Length": str(len(body or b""))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET" and body is not None:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = "{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", f"{address}/{template}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for seed, commit in enumerate(COMMITS.values()):
        content = small_bundle(tmp_path / "model.safetensors", seed=seed).read_bytes()
        contents[commit] = {"README.md": b"# card", "best.safetensors": content}
    yield contents, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_bundle_of_a_repository_is_copied_once_for_each_commit(hub, tmp_path):
    contents, asked = hub
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
    contents, _ = hub
    damaged = bytearray(contents[COMMITS["main"]]["best.safetensors"])
    damaged[-100] ^= 1
    contents[COMMITS["main"]]["best.safetensors"] = bytes(damaged)
    with pytest.raises(WeightsError):
        ps.load_model("hf://owner/street")


def test_what_cannot_be_had_is_one_line(hub):
    contents, _ = hub
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
