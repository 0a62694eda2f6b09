"""`pyramidseg serve` as a process, and its client."""

import asyncio
import contextlib
import gc
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from dataclasses import fields
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import uvicorn
from PIL import Image

import pyramidseg as ps
from forks import PythonProcess
from made_server import noise, png, server_process, small_bundle
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.cli.main import main
from pyramidseg.cli.serve import model_names
from pyramidseg.serve.limits import Limits, is_loopback
from pyramidseg.serve.server import _TimedProtocol
from pyramidseg.serve.service import Service

PIXELS = noise(40, 60)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("model") / "street.safetensors")


@pytest.fixture(scope="module")
def url(bundle):
    limits = ("--header-timeout-s", "1", "--max-header-bytes", "4000", "--max-body-mb", "1")
    token = {"PYRAMIDSEG_TOKEN": "a-token"}
    with server_process(bundle, "--device", "cpu", *limits, environment=token) as (url, _):
        yield url


@pytest.fixture(scope="module")
def client(url):
    return ps.Client(url, token="a-token")


@pytest.fixture(scope="module")
def predictor(bundle):
    return ps.Predictor(bundle, device="cpu")


def same(found, expected):
    assert type(found) is type(expected) and found.classes == expected.classes
    for name in ("labels", "confidence", "probabilities"):
        ours, theirs = getattr(found, name), getattr(expected, name)
        assert (ours is None) == (theirs is None), name
        assert ours is None or (ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()), name


@pytest.mark.parametrize("options", [{}, {"confidence": True}, {"confidence": True, "probabilities": True}])
def test_the_client_returns_what_the_predictor_does(client, predictor, tmp_path, options):
    Image.fromarray(PIXELS).save(tmp_path / "image.png")
    expected = predictor.predict(PIXELS, **options)
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    for image in (
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
        png(PIXELS),
        PIXELS,
        tensor,
        Image.fromarray(PIXELS),
    ):
        same(client.predict(image, **options), expected)


def test_other_types_of_arrays(client, predictor):
    for image in (PIXELS / 255, PIXELS.astype(np.uint16) * 257, PIXELS[..., 0], (PIXELS / 255).astype(np.float32)):
        same(client.predict(image), predictor.predict(image))


def test_errors_of_the_client(client, url, monkeypatch):
    with pytest.raises(DataError, match=r"answered 400: image: .* not an image in a supported format"):
        client.predict(b"text")
    with pytest.raises(DataError, match="413"):
        client.predict(np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8))
    with pytest.raises(ConfigError, match="valid token"):
        ps.Client(url, token="other")
    with pytest.raises(ConfigError, match="has the models street; choose one"):
        ps.Client(url, token="a-token", model="road")
    with pytest.raises(ConfigError, match="is the server running"):
        ps.Client("http://127.0.0.1:1")
    with pytest.raises(ConfigError, match="has to start with http"):
        ps.Client("localhost:8000")


def connect(url):
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=20)


def test_slow_headers_end_the_connection_and_long_ones_get_400(url):
    with connect(url) as slow:
        slow.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n")
        started = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            assert slow.recv(100) == b""
        assert time.monotonic() - started > 0.5
    with connect(url) as long:
        long.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 10_000)
        assert long.recv(100).startswith(b"HTTP/1.1 400")


def test_a_refused_request_is_answered_after_its_body_was_sent(url):
    place = urlsplit(url)
    for _ in range(5):
        connection = http.client.HTTPConnection(place.hostname, place.port, timeout=20)
        connection.request("POST", "/segment", body=b"x" * 900_000)
        assert connection.getresponse().status == 401
        connection.close()


def test_a_stopped_server_finishes_what_it_works_on(bundle):
    with server_process(bundle, "--device", "cpu", "--tile", "64") as (url, process):
        content, found = png(np.zeros((700, 700, 3), np.uint8)), []
        send = urllib.request.Request(f"{url}/segment?include=", content)
        thread = threading.Thread(target=lambda: found.append(json.load(urllib.request.urlopen(send, timeout=60))))
        thread.start()
        metrics = f"{url}/metrics"
        while b"pyramidseg_requests_in_work 1.0" not in urllib.request.urlopen(metrics, timeout=20).read():
            time.sleep(0.01)
        process.send(signal.SIGTERM, workers=False)
        thread.join()
        assert found[0]["width"] == 700 and process.wait(30) == 0
        with pytest.raises(OSError):
            connect(url)


LOADING = """
import asyncio, sys
from pyramidseg.cli.main import main
from pyramidseg.serve.service import Service

async def start(self):
    print("loading", flush=True)
    await asyncio.sleep(1000)

Service.start = start
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_whose_models_are_loaded_can_be_stopped(number):
    words = ("serve", "none.safetensors", "--workers", "0", "--port", "0")
    with PythonProcess("-c", LOADING, *words) as process:
        while "loading" not in process.output():
            assert not process.has_ended(), process.errors()
            time.sleep(0.01)
        process.send(number, workers=False)
        assert process.wait(20) == 130 and process.errors() == "interrupted\n"


def test_ctrl_c_while_workers_start_is_one_word(bundle):
    """A terminal sends it to all processes, and the one that workers are forked from is importing torch then."""
    with PythonProcess("-m", "pyramidseg", "serve", bundle, "--workers", "1", "--port", "0") as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not any("forkserver" in command_line(child) for child in children.read_text().split()):
            assert not process.has_ended(), process.errors()
            time.sleep(0.01)
        time.sleep(0.3)
        process.send(signal.SIGINT)
        assert process.wait(60) == 130 and process.errors() == "interrupted\n"


def command_line(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


async def read_slowly(read):
    """Send 16 MiB to a client, which `read` is; returns how many connections are left after it."""

    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % 2**24)]})
        await send({"type": "http.response.body", "body": bytes(2**24)})

    class Protocol(_TimedProtocol):
        timeout_s = 0.2

    config = uvicorn.Config(
        application, http=Protocol, ws="none", lifespan="off", log_config=None, timeout_keep_alive=0
    )
    server, listener = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server.serve([listener]))
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
    await reader.readuntil(b"\r\n\r\n")
    await read(reader, server.server_state.connections)
    writer.close()
    server.should_exit = True
    await serving


def test_a_client_that_reads_no_answer_is_disconnected():
    async def read(reader, connections):
        async with asyncio.timeout(10):
            while connections:
                await asyncio.sleep(0.01)

    asyncio.run(read_slowly(read))


def test_an_answer_that_is_read_slowly_is_complete():
    async def read(reader, connections):
        for _ in range(16):
            assert not any(await reader.readexactly(2**20))
            await asyncio.sleep(0.05)

    asyncio.run(read_slowly(read))


def test_tls(bundle, tmp_path):
    files = [str(tmp_path / name) for name in ("key.pem", "cert.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    made = subprocess.run([*command, "-keyout", files[0], "-out", files[1]], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("no openssl")
    with (
        tls_process(bundle, *files) as url,
        urllib.request.urlopen(f"{url}/health/live", context=ssl._create_unverified_context(), timeout=20) as answer,
    ):
        assert url.startswith("https://") and json.load(answer) == {"live": True}


def tls_process(bundle, key, certificate):
    from contextlib import contextmanager

    @contextmanager
    def run():
        flags = ("--device", "cpu", "--workers", "0", "--ssl-keyfile", key, "--ssl-certfile", certificate)
        with server_process(bundle, *flags, wait=False) as (url, _):
            yield url

    return run()


def test_wrong_arguments_are_one_line_before_models_are_loaded(bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Service, "start", lambda self: pytest.fail("models are loaded"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = [
            (("--host", "0.0.0.0"), "a token is required: set PYRAMIDSEG_TOKEN"),
            ((bundle,), "a second model is named street; write NAME="),
            (("--max-body-mb", "0"), "--max-body-mb 0: has to be above 0"),
            (("--max-body-mb", "inf"), "--max-body-mb inf: has to be above 0 and below 1e15"),
            (("--timeout-s", "nan"), "--timeout-s nan: has to be above 0"),
            (("--token", "secret\n"), "--token: has spaces, line breaks or characters"),
            (("--token", "gehe\u00edm"), "--token: has spaces, line breaks or characters"),
            (("--ssl-certfile", tmp_path / "none.pem"), "--ssl-certfile, --ssl-keyfile: cannot be read"),
            (("--port", taken.getsockname()[1]), "cannot listen"),
            (("--port", "70000", "--workers", "0"), "--port 70000: cannot listen"),
        ]
        for arguments, words in cases:
            assert main(["serve", str(bundle), "--device", "cpu", *map(str, arguments)]) == 2
            errors = capsys.readouterr().err
            assert words in errors and errors.count("\n") == 1, errors
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--max-requests N requests in progress or waiting; further ones get 429 (default: 64)" in shown


def test_models_are_named_by_their_files():
    assert model_names(["a/street.onnx", "runs/night/best.safetensors", "b=x/y.xml"]) == {
        "street": "a/street.onnx",
        "night": "runs/night/best.safetensors",
        "b": "x/y.xml",
    }
    with pytest.raises(ConfigError, match="cannot be part of a URL; write NAME="):
        model_names(["a b.onnx"])
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("::") and not is_loopback("example.org")
    assert "PYRAMIDSEG_TOKEN" not in os.environ


def test_the_examples_of_the_documentation_run_as_written(url, predictor, tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8").replace("'...'", "'a-token'")
    page = page.replace("http://127.0.0.1:8000", url).replace('token="..."', 'token="a-token"')
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PIXELS).save("photo.jpg")
    expected = predictor.predict("photo.jpg")
    curls = [
        line.replace("curl ", "curl -sfH 'Authorization: Bearer a-token' ")
        for line in page.splitlines()
        if line.startswith("curl ")
    ]
    outputs = [subprocess.run(line, shell=True, check=True, capture_output=True).stdout for line in curls]
    assert np.array_equal(np.array(Image.open("labels.png")), expected.labels)
    assert json.loads(outputs[1])["polygons"]
    (block,) = re.findall(r"```text\n(.*?)```", page, re.DOTALL)
    exec(block, {})
    assert capsys.readouterr().out.strip() == str(expected.shares())
    for limit in fields(Limits):
        assert f"--{limit.name.replace('_', '-')}`" in page, limit.name


def test_what_is_imported_before_the_models_is_left_out_of_collections(bundle, monkeypatch):
    frozen = []

    async def serve(self, sockets):
        frozen.append(gc.get_freeze_count())
        for listener in sockets:
            listener.close()

    handlers = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr("uvicorn.Server.serve", serve)
    gc.unfreeze()  # what the tests have frozen
    try:
        assert main(["serve", str(bundle), "--port", "0", "--workers", "0", "--device", "cpu", "-q"]) == 0
        assert frozen[0] > 100_000
    finally:
        for name, handler in handlers.items():
            signal.signal(name, handler)
