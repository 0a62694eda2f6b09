"""`ps.Client` at an address where something else answers: a proxy, or another program."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import pyramidseg as ps
from pyramidseg.base.errors import ConfigError, OutputError


@contextmanager
def answering(handler: Callable[..., Any]) -> Iterator[str]:
    """The URL of a server with this handler."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Proxy(BaseHTTPRequestHandler):
    """Its own page for an error; then half an answer."""

    def do_GET(self) -> None:
        failed = self.path.startswith("/failed")
        self.send_response(502 if failed else 200)
        self.send_header("Content-Length", "40" if failed else "100")
        self.end_headers()
        self.wfile.write(b"<html>\n<h1>Bad\nGateway</h1>\n</html>".ljust(40))

    def log_message(self, *arguments: object) -> None:
        pass


def test_errors_of_a_proxy_are_one_line() -> None:
    with answering(Proxy) as url:
        with pytest.raises(OutputError, match=r"answered 502: <html> <h1>Bad Gateway</h1> </html>$"):
            ps.Client(f"{url}/failed")
        with pytest.raises(ConfigError, match="cannot be reached: IncompleteRead"):
            ps.Client(url)


def test_a_server_of_something_else_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("<html>hello</html>")
    with (
        answering(partial(SimpleHTTPRequestHandler, directory=tmp_path)) as url,
        pytest.raises(ConfigError, match="is not a server of pyramidseg; start one with pyramidseg serve"),
    ):
        ps.Client(url)
