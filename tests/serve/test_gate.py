"""What every request passes: ids, the token, limits, security headers, the access log, and metrics."""

import asyncio
import base64
import json
import logging
import threading
import time

import pytest

from made_server import Held, noise, png, serving
from pyramidseg.predict.predictor import Predictor
from pyramidseg.serve.gate import Gate, token_accepted
from pyramidseg.serve.limits import Limits
from pyramidseg.serve.server_metrics import ServerMetrics

CONTENT = png(noise())


@pytest.fixture(scope="module")
def client():
    with serving(max_body_mb=0.01, max_pixels=1000) as client:
        yield client


def basic(user, password):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer a-token", 200),
        ("bearer a-token", 200),
        (basic("anyone", "a-token"), 200),
        (basic("", "a-token"), 200),
        ("", 401),
        ("Bearer", 401),
        ("Bearer a-tokem", 401),
        ("Bearer a-token2", 401),
        ("Token a-token", 401),
        (basic("a-token", ""), 401),
        ("Basic a-token", 401),
        ("Basic " + base64.b64encode(b"\xff:\xff").decode(), 401),
    ],
)
def test_the_token(authorization, status):
    with serving(token="a-token", ready=False) as client:
        headers = {"Authorization": authorization} if authorization else {}
        answer = client.get("/models", headers=headers)
        assert answer.status_code == status
        if status == 401:
            assert answer.headers["WWW-Authenticate"] == "Bearer" and "token" in answer.json()["error"]
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")


def test_probes_and_the_page_need_no_token_and_all_else_does():
    with serving(token="a-token") as client:
        for path in ("/", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready"):
            assert client.get(path).status_code == 200, path
        paths = json.loads(client.get("/openapi.json", headers={"Authorization": "Bearer a-token"}).text)["paths"]
        closed = [path for path in paths if path not in ("/", "/health/live", "/health/ready", "/v2/health/{what}")]
        for path in (*closed, "/openapi.json", "/health/live/../models", "/page/../models", "/none"):
            for method in ("GET", "POST"):
                if not path.startswith("/page/{"):
                    assert client.request(method, path).status_code == 401, (method, path)


def test_the_token_is_not_kept_in_memory():
    gate = Gate(None, limits=Limits(), metrics=ServerMetrics(), token="a-token")
    assert "a-token" not in str(vars(gate)) and not token_accepted("Bearer a-token", None)


def test_security_headers_and_request_ids(client):
    answer = client.get("/models", headers={"X-Request-ID": "abc-1"})
    assert answer.headers["X-Request-ID"] == "abc-1"
    assert answer.headers["X-Content-Type-Options"] == "nosniff" and "frame-ancestors" in str(answer.headers)
    assert "access-control-allow-origin" not in answer.headers
    forged = client.get("/models", headers={"X-Request-ID": "a b <script>"}).headers["X-Request-ID"]
    assert len(forged) == 32


def test_the_access_log_has_a_line_for_each_request(client, caplog):
    with caplog.at_level(logging.INFO, "pyramidseg.serve.gate"):
        client.post("/segment", content=CONTENT, headers={"X-Request-ID": "abc"})
        client.get("/none%0aforged")
    first, second = (json.loads(record.message) for record in caplog.records if record.name.endswith("gate"))
    assert first["id"] == "abc" and first["status"] == 200 and first["request"] == "POST /segment"
    assert first["bytes"][0] == len(CONTENT) and first["ms"] > 0
    assert second["status"] == 404 and "\n" not in caplog.records[-1].message


def test_unknown_paths_and_methods(client):
    assert client.get("/none").json()["error"] == "GET /none: Not Found"
    for method in ("GET", "HEAD", "OPTIONS", "PUT"):
        refused = client.request(method, "/segment")
        assert (refused.status_code, refused.headers["Allow"]) == (405, "POST"), method
    assert client.get("/page/none.js").status_code == 404
    for path in ("/page/../app.py", "/page/%2e%2e/app.py", "/page/..%2fapp.py", "/page/"):
        assert client.get(path).status_code == 404, path


def test_head_has_the_headers_of_get(client, caplog):
    """Load balancers probe with it."""
    with caplog.at_level(logging.INFO, "pyramidseg.serve.gate"):
        for path in ("/", "/health/live", "/health/ready", "/page/page.js", "/models"):
            head, get = client.head(path), client.get(path)
            assert (head.status_code, head.content) == (200, b""), path
            assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.content))
    assert json.loads(caplog.records[0].message)["request"] == "HEAD /"


def test_large_bodies_and_images_are_refused(client):
    answer = client.post("/segment", content=b"x" * 20_000)
    assert answer.status_code == 413 and "10485 bytes" in answer.json()["error"]
    chunked = client.post("/segment", content=iter([b"x" * 6000] * 3))
    assert chunked.status_code == 413
    bomb = client.post("/segment", content=png(noise()[:1, :1].repeat(100, 0).repeat(100, 1)))
    assert bomb.status_code == 413 and "100 x 100 pixels, and 1000 are allowed" in bomb.json()["error"]


def test_a_request_that_needs_too_much_memory_alone_is_refused():
    with serving(max_memory_mb=0.02) as client:
        assert client.post("/segment", content=CONTENT).status_code == 200
        answer = client.post("/segment?format=npz-probabilities", content=CONTENT)
        assert answer.status_code == 413 and "ask for less" in answer.json()["error"]
        assert client.service.admission.bytes == 0


def test_a_busy_server_says_when_to_try_again():
    backend = Held()
    with serving(Predictor(backend), max_requests=2, max_batch_size=1) as client:
        backend.go.clear()
        waiting = [threading.Thread(target=client.post, args=("/segment",), kwargs={"content": CONTENT}) for _ in "ab"]
        for thread in waiting:
            thread.start()
        while client.service.admission.requests < 2:
            time.sleep(0.005)
        answer = client.post("/segment", content=CONTENT)
        assert answer.status_code == 429 and int(answer.headers["Retry-After"]) >= 1
        assert "busy with 2 requests" in answer.json()["error"]
        assert client.get("/health/live").status_code == client.get("/health/ready").status_code == 200
        backend.go.set()
        for thread in waiting:
            thread.join()
        assert client.post("/segment", content=CONTENT).status_code == 200


def test_a_deadline_is_answered_with_504_and_its_image_is_not_computed():
    backend = Held()
    with serving(Predictor(backend), timeout_s=0.2, max_batch_size=1) as client:
        backend.go.clear()
        statuses = []
        post = lambda seed: statuses.append(client.post("/segment", content=png(noise(6, 6 + seed))).status_code)  # noqa: E731
        threads = [threading.Thread(target=post, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert statuses == [504] * 3
        computed = len(backend.batches)
        backend.go.set()
        assert client.post("/segment", content=CONTENT).status_code == 200
        assert len(backend.batches) == computed + 1


def test_a_client_that_goes_away_leaves_the_queue():
    backend = Held()
    with serving(Predictor(backend), max_batch_size=1) as client:
        backend.go.clear()
        threads = [threading.Thread(target=client.post, args=("/segment",), kwargs={"content": CONTENT})]
        threads[0].start()
        while client.service.admission.requests < 1:
            time.sleep(0.005)
        messages = [{"type": "http.request", "body": png(noise(7, 7))}, {"type": "http.disconnect"}]
        sent = []

        async def receive():
            if len(messages) == 1:
                while not client.service.engines["m0"]._waiting:
                    await asyncio.sleep(0.005)
            return messages.pop(0)

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/segment", "query_string": b"", "headers": []}
        client.portal.call(client.app, scope, receive, send)
        assert sent[0]["status"] == 499 and client.service.admission.requests == 1
        backend.go.set()
        threads[0].join()
        assert all(shape[-2:] != (7, 7) for shape in backend.batches)


def test_a_slow_body_is_refused():
    with serving(body_timeout_s=0.1) as client:
        sent = []

        async def receive():
            await asyncio.sleep(0.04)
            return {"type": "http.request", "body": b"x", "more_body": True}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/segment", "query_string": b"", "headers": []}
        client.portal.call(client.app, scope, receive, send)
        assert sent[0]["status"] == 408 and b"did not arrive within 0.1 s" in sent[1]["body"]


def test_readiness_follows_the_first_prediction():
    backend = Held()
    backend.go.clear()
    with serving(Predictor(backend), ready=False) as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == client.get("/v2/models/m0/ready").status_code == 503
        backend.go.set()
        while client.get("/health/ready").status_code != 200:
            time.sleep(0.005)


def test_a_model_that_cannot_predict_does_not_become_ready(caplog):
    class Broken(Held):
        def coarse_logits(self, images):
            raise RuntimeError("a broken model")

    with serving(Predictor(Broken()), ready=False) as client:
        while "it does not become ready: a broken model" not in caplog.text:
            time.sleep(0.005)
        assert client.get("/health/ready").status_code == 503


def test_metrics(client):
    before = client.get("/metrics").text
    client.post("/segment", content=CONTENT)
    client.post("/segment", content=b"bad")
    after = client.get("/metrics").text

    def value(text, name):
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " ")), 0.0)

    def grown(name):
        return value(after, name) - value(before, name)

    assert grown('pyramidseg_requests_total{route="/segment",status="200"}') == 1
    assert grown('pyramidseg_errors_total{status="400"}') == 1
    assert grown('pyramidseg_pixels_total{model="m0"}') == 600
    assert grown('pyramidseg_batch_size_count{model="m0"}') == 1
    for phase in ("decode", "queue", "model", "labels", "encode", "total"):
        assert grown(f'pyramidseg_latency_seconds_count{{phase="{phase}"}}') >= 1, phase
    assert value(after, 'pyramidseg_queue_length{model="m0"}') == value(after, "pyramidseg_reserved_bytes") == 0


def test_the_status_and_the_page(client):
    assert client.get("/").json()["models"] == ["m0"]
    page = client.get("/", headers={"Accept": "text/html,*/*"})
    if page.headers["Content-Type"].startswith("text/html"):  # the page is part of the package
        assert client.get("/page/page.js").headers["Content-Type"].startswith("text/javascript")
        assert "<script>" not in page.text and "style=" not in page.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("localhost", 200), ("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("localhost:1", 200)),
        *(("evil.example", 421), ("evil.example:8000", 421), ("127.0.0.1.evil.example", 421), ("", 421)),
    ],
)
def test_a_server_without_token_answers_only_as_this_machine(host: str, status: int) -> None:
    with serving(app={"loopback_only": True}) as client:
        answer = client.get("/models", headers={"host": host})
    assert answer.status_code == status
    assert status == 200 or "only answers as localhost" in answer.json()["error"]
