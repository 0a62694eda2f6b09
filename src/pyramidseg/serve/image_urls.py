"""Images behind URLs: below the prefixes of `--allow-url`, and at public addresses only.

A request could otherwise make the server ask for what only it can reach (server-side request forgery). So every URL,
also of a redirect, needs an allowed origin and path; its name is resolved once, all of its addresses have to be public,
and the connection is made to the one that was checked. Proxies of the environment are not used.
"""

import http.client
import ipaddress
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, suppress
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit, urlunsplit

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import first_line
from pyramidseg.serve.limits import Limits, Refused

UNICAST = ipaddress.ip_network("2000::/3")


def origin(url: SplitResult) -> tuple[str, str | None, int]:
    """Scheme, host and port."""
    return url.scheme, url.hostname, url.port or (443 if url.scheme == "https" else 80)


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet, and does not stand for an IPv4 address in another network."""
    found = ipaddress.ip_address(address.partition("%")[0])
    plain = found.version == 4 or (found in UNICAST and not (found.sixtofour or found.teredo))
    return plain and found.is_global and not found.is_multicast


class AllowedUrls:
    """The URLs that clients may name.

    Args:
        prefixes: `https://host/folder`; without any, no URL is fetched.
        label_studio: URL of the only server that need not have a public address; its key is not sent.

    Raises:
        ConfigError: a prefix is not such a URL.
    """

    def __init__(self, prefixes: Sequence[str], limits: Limits, *, label_studio: str = "") -> None:
        self._prefixes, self._limits = prefixes, limits
        self._private = [origin(urlsplit(label_studio))[1:]] if label_studio else []
        for prefix in prefixes:
            if _split(prefix) is None or "?" in prefix:
                raise ConfigError(f"`allow_url={prefix}`: has to be like https://host or https://host/folder")

    def check(self, url: str) -> str:
        """An allowed URL, quoted.

        Raises:
            Refused: it is not below an allowed prefix.
        """
        if not self._prefixes:
            raise Refused(400, "url: this server fetches none (pyramidseg serve --allow-url); send the image itself")
        if (found := _split(url)) and any(_is_below(found, prefix) for prefix in map(_split, self._prefixes)):
            path, query = quote(found.path, safe="/%"), quote(found.query, safe="=&%+/:")
            return urlunsplit((found.scheme, found.netloc, path, query, ""))
        raise Refused(400, f"{url[:200]}: not below an allowed URL ({', '.join(self._prefixes)}), so not fetched")

    def fetch(self, url: str) -> bytes:
        """The content of an image; raises the same, also if it cannot be had."""
        request = urllib.request.Request(self.check(url))  # noqa: S310 - http or https
        try:
            return fetch(request, self._limits, follow=self.check, private=self._private)[0]
        except urllib.error.HTTPError as error:
            raise Refused(502, f"{url[:200]}: its server answered {error.code} {error.reason}") from None


def fetch(
    request: urllib.request.Request,
    limits: Limits,
    *,
    follow: Callable[[str], str],
    private: Collection[tuple[str | None, int]] | None = None,
) -> tuple[bytes, str]:
    """The content and the last URL of a request, within the limits on bodies and their time.

    Args:
        follow: checks each URL of a redirect, and returns it.
        private: hosts and ports whose addresses need not be public; None for all.

    Raises:
        Refused: it cannot be had.
        HTTPError: the answer is a status from 400 on.
    """
    url, seconds, most = request.full_url, limits.body_timeout_s, int(limits.max_body_mb * 2**20)
    content, late, end = bytearray(), threading.Event(), time.monotonic() + seconds
    with ExitStack() as stack:

        def connect(place: tuple[str, int], timeout: float, source: None = None) -> socket.socket:
            if private is not None and place not in private:
                found = [str(entry[4][0]) for entry in socket.getaddrinfo(*place, type=socket.SOCK_STREAM)]
                if hidden := [address for address in found if not is_public(address)]:
                    raise Refused(400, f"{url}: leads to {hidden[0]}, which is not a public address, so not fetched")
                place = found[0], place[1]
            connected = socket.create_connection(place, timeout)
            # A copy, since TLS takes the socket over.
            timer = threading.Timer(max(0, end - time.monotonic()), _end, (stack.enter_context(connected.dup()), late))
            stack.callback(timer.cancel)
            timer.start()
            return connected

        own = [urllib.request.ProxyHandler({})] if private is not None else []
        opener = urllib.request.build_opener(_Handler(follow, connect), *own)
        try:
            with opener.open(request, timeout=seconds) as answer:
                while part := answer.read1(2**16):
                    content += part
                    if len(content) > most:
                        raise Refused(413, f"{url}: has more than {most} bytes, which are allowed")
                if answer.length:  # bytes of Content-Length that have not come
                    raise http.client.IncompleteRead(b"", answer.length)
                last: str = answer.url
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, urllib.error.HTTPError):
                raise
            if not late.is_set():
                raise Refused(502, f"{url}: cannot be fetched: {first_line(error)}") from None
        if late.is_set():
            raise Refused(502, f"{url}: was not complete after {seconds:g} s")
    return bytes(content), last


class _Handler(urllib.request.HTTPSHandler, urllib.request.HTTPHandler, urllib.request.HTTPRedirectHandler):
    """Connects and follows redirects by two functions."""

    def __init__(self, follow: Callable[[str], str], connect: Callable[..., socket.socket]) -> None:
        super().__init__()
        self._follow, self._connect = follow, connect

    def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
        def make(host: str, **own: Any) -> Any:
            made = http_class(host, **own)
            made._create_connection = self._connect
            return made

        return super().do_open(make, req, **options)

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        return super().redirect_request(req, fp, code, msg, headers, self._follow(newurl))


def _end(connection: socket.socket, late: threading.Event) -> None:
    late.set()
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _split(url: str) -> SplitResult | None:
    """The parts of a URL; None if it is not a plain one of http or https."""
    try:
        found = urlsplit(url)
        plain = found.scheme in ("http", "https") and found.hostname and "@" not in found.netloc and found.port != 0
    except ValueError:
        return None
    steps = unquote(unquote(found.path)).replace("\\", "/").split("/")
    return found if plain and ".." not in steps else None


def _is_below(url: SplitResult, prefix: SplitResult | None) -> bool:
    assert prefix is not None
    return origin(url) == origin(prefix) and f"{url.path}/".startswith(f"{prefix.path.rstrip('/')}/")
