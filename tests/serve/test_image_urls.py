"""`--allow-url`: images behind URLs, without a way to what only the server can reach.

Names are resolved by a table here, and connections to the public address of the made server are made to loopback, so
that the checks themselves are those of the product.
"""

import base64
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from made_server import noise, png, read, serving
from pyramidseg.base.errors import ConfigError
from pyramidseg.cli.main import main
from pyramidseg.serve.image_urls import AllowedUrls, is_public
from pyramidseg.serve.limits import Limits, Refused

CONTENT = png(noise())
PUBLIC = "93.184.216.34"
SECRET = "http://169.254.169.254/latest/meta-data"


class Site(BaseHTTPRequestHandler):
    """Images, redirects and slow answers."""

    seen: list[tuple[str, str]] = []

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        self.seen.append((self.headers["Host"], self.path))
        moved = {
            "/open/moved.png": "/open/a.png",
            "/open/away.png": SECRET,
            "/open/out.png": "/closed/a.png",
            "/open/other.png": "http://other.example/open/a.png",
            "/open/inside.png": "http://inside.example/open/a.png",
            "/open/file.png": "file:///etc/passwd",
            "/open/loop.png": "/open/loop.png",
        }
        if self.path in moved:
            self.send_response(302)
            self.send_header("Location", moved[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif self.path == "/open/slow.png":
            self.send_response(200)
            self.end_headers()
            while self.drip(b"x"):
                pass
        elif self.path == "/open/slow_headers.png":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while self.drip(b"X: y\r\n"):
                pass
        elif self.path == "/open/cut.png":
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[:-5])
        elif self.path.startswith("/open/a"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT)
        else:
            self.send_error(404)

    def drip(self, content):
        try:
            self.wfile.write(content)
        except OSError:
            return False
        return not time.sleep(0.05)


@pytest.fixture(scope="module")
def port():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def network(monkeypatch, port):
    """Addresses by name, and what was resolved and connected to."""
    names = {"site.example": [PUBLIC], "other.example": [PUBLIC], "inside.example": ["10.0.0.7"]}
    log, resolve, connect = [], socket.getaddrinfo, socket.create_connection

    def lookup(host, *rest, **options):
        if host not in names:
            return resolve(host, *rest, **options)
        log.append(("resolved", host))
        found = names[host]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, rest[0])) for address in found]

    def made(place, timeout=None, *rest):
        log.append(("connected", place[0]))
        return connect(("127.0.0.1", port) if place[0] == PUBLIC else place, timeout)

    monkeypatch.setattr("pyramidseg.serve.image_urls.socket.getaddrinfo", lookup)
    monkeypatch.setattr("pyramidseg.serve.image_urls.socket.create_connection", made)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    Site.seen.clear()
    return names, log


def urls(*prefixes, **limits):
    return AllowedUrls(prefixes or ("http://site.example/open",), Limits(**limits))


def test_an_image_is_fetched_from_the_address_that_was_checked(network):
    _, log = network
    assert urls().fetch("http://site.example/open/a.png?x=1") == CONTENT
    assert log == [("resolved", "site.example"), ("connected", PUBLIC)]
    assert Site.seen == [("site.example", "/open/a.png?x=1")]


def test_a_request_with_a_url_has_the_answer_of_one_with_the_image(network):
    with serving(app={"allow_urls": ["http://site.example/open/"]}) as client:
        answer = client.post("/segment?format=labels", json={"url": "http://site.example/open/a.png"})
        assert answer.status_code == 200, answer.text
        assert (read(answer.content) == read(client.post("/segment?format=labels", content=CONTENT).content)).all()
        both = {"url": "http://site.example/open/a.png", "image": base64.b64encode(CONTENT).decode()}
        for body, status, words in (
            (both, 400, "both image and url"),
            ({}, 400, "the request has no image"),
            ({"url": SECRET}, 400, "not below an allowed URL"),
            ({"url": "http://site.example/open/none.png"}, 502, "answered 404"),
        ):
            answer = client.post("/segment", json=body)
            assert answer.status_code == status and words in answer.json()["error"], answer.text
    with serving() as client:
        answer = client.post("/segment", json={"url": "http://site.example/open/a.png"})
        assert answer.status_code == 400 and "(pyramidseg serve --allow-url)" in answer.json()["error"]


@pytest.mark.parametrize(
    "url",
    [
        "https://site.example/open/a.png",
        "http://site.example:81/open/a.png",
        "http://site.example/opened/a.png",
        "http://site.example/open/../closed/a.png",
        "http://site.example/open/%2e%2E/closed/a.png",
        "http://site.example/open/%252e%252e/closed/a.png",
        "http://site.example/open/..%5cclosed/a.png",
        "http://site.example.evil.example/open/a.png",
        "http://site.example@inside.example/open/a.png",
        "http://inside.example/open/a.png#http://site.example/open/",
        "http://inside.example\\@site.example/open/a.png",
        "file:///open/a.png",
        "ftp://site.example/open/a.png",
        "//site.example/open/a.png",
        "http://[::1/open/a.png",
        "http://site.example:x/open/a.png",
        "open/a.png",
    ],
)
def test_urls_elsewhere_are_refused_before_anything_is_resolved(network, url):
    with pytest.raises(Refused, match="not below an allowed URL"):
        urls().fetch(url)
    assert network[1] == [] and Site.seen == []


@pytest.mark.parametrize("name", ["away", "out", "other", "file"])
def test_a_redirect_elsewhere_is_refused(network, name):
    with pytest.raises(Refused, match=r"not below an allowed URL|Redirection to url 'file"):
        urls().fetch(f"http://site.example/open/{name}.png")
    assert [path for _, path in Site.seen] == [f"/open/{name}.png"]


def test_redirects_below_an_allowed_prefix_are_followed_and_each_address_is_checked(network):
    assert urls().fetch("http://site.example/open/moved.png") == CONTENT
    allowed = urls("http://site.example/open", "http://other.example", "http://inside.example")
    assert allowed.fetch("http://site.example/open/other.png") == CONTENT
    with pytest.raises(Refused, match=r"leads to 10\.0\.0\.7, which is not a public address"):
        allowed.fetch("http://site.example/open/inside.png")
    with pytest.raises(Refused, match="answered 302"):
        urls().fetch("http://site.example/open/loop.png")


def test_a_name_that_leads_elsewhere_at_a_second_look_is_looked_up_once(network):
    names, log = network

    class Rebinding(list):
        """Public when it is asked for first, then loopback."""

        def __iter__(self):
            return iter([self.pop(0)])

    names["site.example"] = Rebinding([PUBLIC, "127.0.0.1"])
    assert urls().fetch("http://site.example/open/a.png") == CONTENT
    assert log == [("resolved", "site.example"), ("connected", PUBLIC)]
    with pytest.raises(Refused, match=r"leads to 127\.0\.0\.1"):
        urls().fetch("http://site.example/open/a.png")


def test_one_private_address_among_public_ones_is_refused(network):
    network[0]["site.example"] = [PUBLIC, "192.168.1.1"]
    with pytest.raises(Refused, match=r"leads to 192\.168\.1\.1"):
        urls().fetch("http://site.example/open/a.png")


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "10.1.2.3"]
)
def test_private_hosts_are_refused_even_if_allowed(host):
    with pytest.raises(Refused, match="not a public address"):
        urls(f"http://{host}:9").fetch(f"http://{host}:9/a.png")


@pytest.mark.parametrize(
    ("address", "public"),
    [
        (PUBLIC, True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("192.0.2.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:8.8.8.8", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("2001:0:1::", False),
    ],
)
def test_public_addresses(address, public):
    assert is_public(address) == public


def test_the_configured_label_studio_may_have_a_private_address(port):
    studio = f"http://127.0.0.1:{port}/open"
    allowed = AllowedUrls([studio], Limits(), label_studio=f"http://127.0.0.1:{port}/ls")
    assert allowed.fetch(f"{studio}/a.png") == CONTENT
    with pytest.raises(Refused, match="not a public address"):
        AllowedUrls([studio], Limits(), label_studio=f"http://127.0.0.1:{port + 1}").fetch(f"{studio}/a.png")


def test_limits_on_bytes_and_time(network):
    with pytest.raises(Refused, match="more than 104 bytes") as error:
        urls(max_body_mb=0.0001).fetch("http://site.example/open/a.png")
    assert error.value.status == 413
    for name in ("slow", "slow_headers"):
        with pytest.raises(Refused, match=r"was not complete after 0\.3 s"):
            urls(body_timeout_s=0.3).fetch(f"http://site.example/open/{name}.png")


def test_a_download_that_ends_early_is_the_other_servers_fault(network):
    with pytest.raises(Refused, match="cannot be fetched") as error:
        urls().fetch("http://site.example/open/cut.png")
    assert error.value.status == 502


@pytest.mark.parametrize("prefix", ["site.example", "ftp://site.example", "http://", "http://a/?b", "http://u@a/"])
def test_prefixes_that_cannot_be_used(prefix):
    with pytest.raises(ConfigError, match=r"`allow_url=.*`: has to be like https://host"):
        urls(prefix)


def test_a_wrong_prefix_ends_the_command(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "a.safetensors"), "--allow-url", "example.com"]) == 2
    assert "--allow-url example.com: has to be like" in capsys.readouterr().err
