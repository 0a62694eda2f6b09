"""Images of tasks, fetched from one Label Studio and from nowhere else."""

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from pyramidseg.base.text import first_line
from pyramidseg.serve.limits import Refused

TIMEOUT_S = 30
ACCESS_SECONDS = 240
"""Label Studio's access tokens are valid for five minutes."""


class LabelStudioImages:
    """The Label Studio at a URL.

    Args:
        url: with the path that it is behind, if any: `http://host:8080/label-studio`.
        key: legacy or personal access token; Label Studio's own of `/setup` replaces an empty one.
        max_bytes: of an image.
    """

    def __init__(self, url: str, key: str = "", *, max_bytes: int) -> None:
        self.base, self.key, self.max_bytes = urlsplit(url.rstrip("/")), key, max_bytes
        self._access, self._valid_until = "", 0.0
        self._opener = urllib.request.build_opener(_SameServer(self))

    def locate(self, place: str) -> str:
        """The URL of an image, made from the host of this Label Studio, whatever the place names.

        Raises:
            Refused: it is on another host.
        """
        try:
            given, base = urlsplit(place), self.base
            same = not (given.scheme or given.netloc) or _origin(given) == _origin(base)
        except ValueError:
            same = False
        if not self.base.netloc:
            raise Refused(400, f"{place[:200]}: set LABEL_STUDIO_URL, from which images are fetched")
        if not same or not given.path.startswith("/"):
            raise Refused(
                400, f"{place[:200]}: not an image of {self.base.geturl()} (LABEL_STUDIO_URL), so not fetched"
            )
        path = given.path if given.path.startswith(f"{base.path}/") else base.path + given.path
        return urlunsplit((base.scheme, base.netloc, quote(path, safe="/%"), quote(given.query, safe="=&%+/:"), ""))

    def fetch(self, place: str) -> bytes:
        """The content of an image.

        Raises:
            Refused: it is elsewhere, or cannot be had.
        """
        url = self.locate(place)
        try:
            with self._open(urllib.request.Request(url, headers=self._authorization())) as answer:  # noqa: S310
                content: bytes = answer.read(self.max_bytes + 1)
                asks_to_log_in = "/user/login" in answer.url
        except urllib.error.HTTPError as error:
            if error.code not in (401, 403):
                raise Refused(502, f"{url}: Label Studio answered {error.code} {error.reason}") from None
            asks_to_log_in = True
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            raise Refused(502, f"{url}: cannot be fetched: {first_line(error)}") from None
        if asks_to_log_in:
            remedy = "set LABEL_STUDIO_API_KEY to the access token of a user who may see the project"
            raise Refused(502, f"{url}: Label Studio does not accept the token; {remedy}")
        if len(content) > self.max_bytes:
            raise Refused(413, f"{url}: has more than {self.max_bytes} bytes, which are allowed")
        return content

    def _open(self, request: urllib.request.Request) -> Any:
        return self._opener.open(request, timeout=TIMEOUT_S)

    def _authorization(self) -> dict[str, str]:
        """Of a legacy token, or of an access token, for which a personal one (JWT) is exchanged."""
        if self.key.count(".") != 2:
            return {"Authorization": f"Token {self.key}"} if self.key else {}
        if time.monotonic() > self._valid_until:
            body = json.dumps({"refresh": self.key}).encode()
            url, kind = self.locate("/api/token/refresh"), {"Content-Type": "application/json"}
            with self._open(urllib.request.Request(url, body, kind)) as answer:  # noqa: S310 - the configured host
                self._access = json.loads(answer.read(2**16))["access"]
            self._valid_until = time.monotonic() + ACCESS_SECONDS
        return {"Authorization": f"Bearer {self._access}"}


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follows redirects only to the same Label Studio."""

    def __init__(self, images: LabelStudioImages) -> None:
        self._images = images

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        return super().redirect_request(req, fp, code, msg, headers, self._images.locate(newurl))


def _origin(url: SplitResult) -> tuple[str, str | None, int]:
    return url.scheme, url.hostname, url.port or (443 if url.scheme == "https" else 80)
