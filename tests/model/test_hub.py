"""ImageNet weights through timm and the real client of the Hugging Face hub, against a stand-in on loopback."""

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
import timm
import torch
from safetensors.torch import save_file

from forks import FRESH, run_python
from pyramidseg.model.encoder_weights import IMAGENET_MEAN, IMAGENET_STD

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubStandIn:
    """What the hub's client asks for when it downloads a file: `model.safetensors` of repositories, by HEAD and GET.

    Attributes:
        endpoint: value for HF_ENDPOINT.
        downloads: repositories whose file was fetched, in order.
        revisions: that were asked for.
    """

    def __init__(self, files: dict[str, Path]) -> None:
        self.downloads: list[str] = []
        self.revisions: set[str] = set()
        contents = {repository: path.read_bytes() for repository, path in files.items()}
        downloads, revisions = self.downloads, self.revisions
        trickling = {name for name in files if name.endswith(".a3_in1k") and "resnet34" in name}

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.answer()

            def do_GET(self) -> None:
                repository, content = self.answer()
                if content is not None and repository in trickling:
                    with contextlib.suppress(OSError):
                        for byte in content:
                            self.wfile.write(bytes([byte]))
                            time.sleep(0.1)
                elif content is not None:
                    downloads.append(repository)
                    self.wfile.write(content)

            def answer(self) -> tuple[str, bytes | None]:
                repository, _, place = self.path.strip("/").partition("/resolve/")
                revision, _, name = place.partition("/")
                revisions.add(revision)
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
import json
import os
import sys
import torch
from pyramidseg.model import hub_weights
hub_weights.SLOWEST_BYTES_PER_SECOND = 50_000_000
hub_weights.PINS = {name: hub_weights.Pin(*pin) for name, pin in json.loads(os.environ["PINS"]).items()}
from pyramidseg.base.errors import WeightsError
from pyramidseg.model.encoder import Encoder
results = {}
for case in sys.argv[2:]:
    name, channels, *tags = case.split(":")
    hub_weights.HUB_SECONDS = 3.0 if case == "resnet34:3:a3_in1k" else 60.0  # the one that trickles
    try:
        encoder = Encoder(name, weights=tags[0] if tags else "imagenet", in_channels=int(channels))
        results[case] = {"weights": encoder.network.state_dict(), "source": vars(encoder.source)}
    except WeightsError as error:
        results[case] = {"refused": str(error)}
torch.save(results, sys.argv[1])
"""


def load(
    folder: Path, endpoint: str, *cases: str, offline: bool = False, pins: dict[str, tuple[str, str]] | None = None
) -> tuple[dict[str, dict], str]:
    """Encoders loaded in a process of their own, as the client reads its settings at import; and what it printed."""
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment |= {"HF_HOME": str(folder / "cache"), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    environment["PINS"] = json.dumps(pins or {})
    environment |= {"HF_HUB_OFFLINE": "1"} if offline else {}
    loading = ("-c", LOADING, folder / "loaded.pth", *cases)
    done = run_python(*loading, environment=environment, fresh=FRESH)
    assert done.returncode == 0, done.stderr
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


def assert_is_resnet18(result, state, place="hub cache"):
    assert result["weights"]
    assert all(torch.equal(tensor, state[key]) for key, tensor in result["weights"].items())
    assert result["source"] == {
        "kind": "pretrained",
        "name": f"resnet18.tv_in1k ({place})",
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
    }


def test_imagenet_weights_come_from_the_hub(online, state):
    assert_is_resnet18(online[0]["resnet18:3"], state, place="hub")
    assert online[0]["resnet18:4"]["source"]["name"] == "resnet18.tv_in1k (hub cache)"


def test_they_are_downloaded_once(online):
    assert online[1] == ["timm/resnet18.tv_in1k"]


def test_they_come_from_the_cache_without_a_network(online, folder, state):
    results, _ = load(folder, "http://127.0.0.1:9", "resnet18:3", offline=True)
    assert_is_resnet18(results["resnet18:3"], state)


@pytest.mark.parametrize("same", [True, False])
def test_a_pinned_file_may_be_of_another_commit_of_the_cache(online, folder, state, same):
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() if same else "0" * 64
    pins = {"resnet18.tv_in1k": ("f" * 40, digest)}
    results, _ = load(folder, "http://127.0.0.1:9", "resnet18:3", offline=True, pins=pins)
    if same:
        assert_is_resnet18(results["resnet18:3"], state)
    else:
        assert "resnet18.tv_in1k cannot be loaded from the Hugging Face hub" in results["resnet18:3"]["refused"]


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


def test_each_way_out_leads_to_weights_without_a_network(online, folder, state, tmp_path):
    """That of the environment is a folder which another machine may have filled."""
    refused = load(tmp_path, "http://127.0.0.1:9", "resnet18:3", offline=True)[0]["resnet18:3"]["refused"]
    assert re.search(r"Set (\w+) to a folder that already contains", refused)[1] == "HF_HOME"  # which `load` sets
    network = re.search(r"ImageNet weights of (\w+),", refused)[1]
    file = re.search(r"encoder_weights=FILE(\.\w+)", refused)[1]
    cases = [f"resnet18:3:{folder / 'model'}{file}", "resnet18:3:none", f"{network}:3"]
    results, _ = load(folder, "http://127.0.0.1:9", "resnet18:3", *cases, offline=True)
    assert_is_resnet18(results["resnet18:3"], state)
    assert all(torch.equal(tensor, state[key]) for key, tensor in results[cases[0]]["weights"].items())
    assert [results[case]["source"]["kind"] for case in cases] == ["file", "random", "pretrained"]
    assert "package" in results[cases[2]]["source"]["name"]


def test_a_network_without_pinned_weights_has_tags(tmp_path):
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, tmp_path / "w.safetensors")
    with HubStandIn({"timm/test_resnet.r160_in1k": tmp_path / "w.safetensors"}) as hub:
        refused = load(tmp_path, hub.endpoint, "test_resnet:3")[0]["test_resnet:3"]["refused"]
        case = "test_resnet:3:" + re.search(r"tags of timm: (\w+);", refused)[1]
        found = load(tmp_path, hub.endpoint, case)[0][case]
    assert found["source"]["name"] == "test_resnet.r160_in1k (hub)"
    assert found["weights"]
    assert all(torch.equal(tensor, state[key]) for key, tensor in found["weights"].items())


REFUSED = {
    "a1_in1k": r"of 120 tensors 100 absent",
    "a2_in1k": r"absent: layer4\.0",
    "a3_in1k": r"1 of another shape: layer1\.0\.conv1\.weight 8x64x3x3 instead of 64x64x3x3",
    "gluon_in1k": r"1 tensors hold values .* layer1\.0\.conv1\.weight \(NaN or infinite\)",
    "fb_swsl_ig1b_ft_in1k": r"bn1\.running_var \(negative variances\)",
    "fb_ssl_yfcc100m_ft_in1k": r"bn1\.weight 64 of integers instead of 64",
}
"""Why each tag of resnet18 is refused, with what the stand-in serves for it."""


def foreign(state):
    """Tensors that a hub might serve under the name of resnet18's, in the order of `REFUSED`."""
    return (
        {"weight": torch.rand(3)},
        {key: value for key, value in state.items() if not key.startswith("layer4.")},
        {**state, "layer1.0.conv1.weight": torch.rand(8, 64, 3, 3)},
        {**state, "layer1.0.conv1.weight": torch.full((64, 64, 3, 3), torch.nan)},
        {**state, "bn1.running_var": torch.full((64,), -1.0)},
        {**state, "bn1.weight": torch.ones(64, dtype=torch.int64)},
    )


@pytest.fixture(scope="module")
def served(state, tmp_path_factory):
    """All that a process found with a hub that serves other things; what it printed; and the revisions asked for."""
    folder = tmp_path_factory.mktemp("served")
    files = {}
    for tag, tensors in zip(REFUSED, foreign(state), strict=True):
        files[f"timm/resnet18.{tag}"] = folder / f"{tag}.safetensors"
        save_file(tensors, folder / f"{tag}.safetensors")
    without_counters = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    save_file(without_counters, folder / "tv.safetensors")
    files["timm/resnet18.tv_in1k"] = folder / "tv.safetensors"
    (folder / "page.html").write_text("<html>please log in</html>")
    files["timm/resnet34.tv_in1k"] = folder / "page.html"
    save_file(timm.create_model("resnet34").state_dict(), folder / "34.safetensors")
    for tag in ("a1_in1k", "a2_in1k"):
        files[f"timm/resnet34.{tag}"] = folder / "34.safetensors"
    files["timm/resnet34.a3_in1k"] = folder / "a1_in1k.safetensors"  # it trickles: a large file has a longer limit
    digest = hashlib.sha256((folder / "34.safetensors").read_bytes()).hexdigest()
    pins = {"resnet34.a1_in1k": (COMMIT, digest), "resnet34.a2_in1k": (COMMIT, "0" * 64)}
    others = ("resnet18:3", "resnet34:3", "resnet34:3:a1_in1k", "resnet34:3:a2_in1k", "resnet34:3:a3_in1k")
    with HubStandIn(files) as hub:
        results, printed = load(folder, hub.endpoint, *others, *(f"resnet18:3:{tag}" for tag in REFUSED), pins=pins)
    return results, printed, hub.revisions


@pytest.mark.parametrize(("tag", "message"), REFUSED.items())
def test_what_is_not_the_network_is_refused(tag, message, served):
    refused = served[0][f"resnet18:3:{tag}"]["refused"]
    assert "model.safetensors: not weights of resnet18" in refused
    assert re.search(message, refused), refused


def test_nothing_else_is_printed(served):
    assert not served[1].strip()


def test_a_page_instead_of_weights_is_refused(served):
    assert "model.safetensors: not a readable file of tensors" in served[0]["resnet34:3"]["refused"]


def test_counters_may_be_absent(served, state):
    assert_is_resnet18(served[0]["resnet18:3"], state, place="hub")


def test_a_pinned_network_is_asked_for_at_its_revision(served):
    assert served[0]["resnet34:3:a1_in1k"]["source"]["name"] == "resnet34.a1_in1k (hub)"
    assert {COMMIT, "main"} <= served[2]


def test_another_file_than_the_pinned_one_is_refused_even_if_it_fits(served):
    assert "differs from 0000000000000000..., the one pinned for resnet34" in served[0]["resnet34:3:a2_in1k"]["refused"]


def test_a_hub_that_trickles_is_given_up(served):
    """A byte now and then keeps the client waiting for ever."""
    refused = served[0]["resnet34:3:a3_in1k"]["refused"]
    assert "resnet34.a3_in1k cannot be loaded" in refused
    assert re.search(r"TimeoutError: not complete after \d s, the limit for its size", refused)
