"""ImageNet weights through timm and the real client of the Hugging Face hub, against a stand-in on loopback."""

import hashlib
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import timm
import torch
from safetensors.torch import save_file

from pyramidseg.model.encoder_weights import IMAGENET_MEAN, IMAGENET_STD

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubStandIn:
    """What the hub's client asks for when it downloads a file: `model.safetensors` of repositories, by HEAD and GET.

    Attributes:
        endpoint: value for HF_ENDPOINT.
        downloads: repositories whose file was fetched, in order.
    """

    def __init__(self, files: dict[str, Path]) -> None:
        self.downloads: list[str] = []
        contents = {repository: path.read_bytes() for repository, path in files.items()}
        downloads = self.downloads

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer()

            def do_GET(self) -> None:
                repository, content = self.answer()
                if content is not None:
                    downloads.append(repository)
                    self.wfile.write(content)

            def answer(self) -> tuple[str, bytes | None]:
                repository, _, name = self.path.strip("/").partition("/resolve/main/")
                content = contents.get(repository) if name == "model.safetensors" else None
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                if content is None:
                    self.send_header("X-Error-Code", "EntryNotFound")
                else:
                    self.send_header("X-Repo-Commit", COMMIT)
                    self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                    self.send_header("X-Linked-Size", str(len(content)))
                self.end_headers()
                return repository, content

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.shutdown()
        self.server.server_close()


LOADING = """
import sys
import torch
from pyramidseg.base.errors import WeightsError
from pyramidseg.model.encoder import Encoder
results = {}
for case in sys.argv[2:]:
    name, channels = case.split(":")
    try:
        encoder = Encoder(name, in_channels=int(channels))
        results[case] = {"weights": encoder.network.state_dict(), "source": vars(encoder.source)}
    except WeightsError as error:
        results[case] = {"refused": str(error)}
torch.save(results, sys.argv[1])
"""


def load(folder: Path, endpoint: str, *cases: str, offline: bool = False) -> tuple[dict[str, dict], str]:
    """Encoders loaded in a process of their own, as the client reads its settings at import; and what it printed."""
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment |= {"HF_HOME": str(folder / "cache"), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    command = [sys.executable, "-c", LOADING, str(folder / "loaded.pth"), *cases]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    return torch.load(folder / "loaded.pth"), done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="module")
def state(folder):
    torch.manual_seed(3)
    state = timm.create_model("resnet18").state_dict()
    save_file(state, folder / "model.safetensors")
    return state


@pytest.fixture(scope="module")
def online(folder, state):
    """What the hub gave, and the repositories it gave it from; it has no resnet34."""
    with HubStandIn({"timm/resnet18.tv_in1k": folder / "model.safetensors"}) as hub:
        results, _ = load(folder, hub.endpoint, "resnet18:3", "resnet18:4", "resnet34:3")
    return results, hub.downloads


def assert_is_resnet18(result, state):
    assert result["weights"]
    assert all(torch.equal(tensor, state[key]) for key, tensor in result["weights"].items())
    assert result["source"] == {
        "kind": "pretrained",
        "name": "resnet18.tv_in1k",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }


def test_imagenet_weights_come_from_the_hub(online, state):
    assert_is_resnet18(online[0]["resnet18:3"], state)


def test_they_are_downloaded_once(online):
    assert online[1] == ["timm/resnet18.tv_in1k"]


def test_they_come_from_the_cache_without_a_network(online, folder, state):
    results, _ = load(folder, "http://127.0.0.1:9", "resnet18:3", offline=True)
    assert_is_resnet18(results["resnet18:3"], state)


def test_they_adapt_to_the_channels(online, state):
    first = online[0]["resnet18:4"]["weights"]["conv1.weight"]
    torch.testing.assert_close(first[:, 3], state["conv1.weight"][:, 0] * 3 / 4)


def test_weights_that_the_hub_does_not_have_are_refused(online):
    assert online[0]["resnet34:3"]["refused"].startswith("encoder_weights: resnet34.tv_in1k cannot be loaded")


def test_without_a_network_one_clear_line_names_the_ways_out(tmp_path):
    results, printed = load(tmp_path, "http://127.0.0.1:9", "resnet18:3")  # the discard port: nothing listens
    refused = results["resnet18:3"]["refused"]
    for part in ("resnet18.tv_in1k", "HF_HOME", "encoder_weights=FILE.safetensors", "encoder_weights=none"):
        assert part in refused
    assert "\n" not in refused
    assert "etrying" not in printed  # the client's own minute of attempts, each with a line
