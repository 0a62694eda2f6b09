"""Images of tasks, fetched from one Label Studio and from nowhere else."""

import json
import time
import urllib.error
import urllib.request
from urllib.parse import quote, urlsplit, urlunsplit

from pyramidseg.serve.image_urls import fetch, origin
from pyramidseg.serve.limits import Limits, Refused


class LabelStudioImages:
    """The Label Studio at a URL.

    Args:
        url: with the path that it is behind, if any: `http://host:8080/label-studio`.
        key: legacy or personal access token; Label Studio's own of `/setup` replaces an empty one.
    """

    def __init__(self, url: str, key: str, limits: Limits) -> None:
        self.base, self.key, self.limits = urlsplit(url.rstrip("/")), key, limits
        self._access, self._valid_until = "", 0.0

    def locate(self, place: str) -> str:
        """The URL of an image, made from the host of this Label Studio, whatever the place names.

        Raises:
            Refused: it is on another host.
        """
        try:
            given, base = urlsplit(place), self.base
            same = not (given.scheme or given.netloc) or origin(given) == origin(base)
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
            request = urllib.request.Request(url, headers=self._authorization())  # noqa: S310 - the configured host
            content, last = fetch(request, self.limits, follow=self.locate)
        except urllib.error.HTTPError as error:
            if error.code not in (401, 403):
                raise Refused(502, f"{url}: Label Studio answered {error.code} {error.reason}") from None
            last = "/user/login"
        if "/user/login" in last:
            remedy = "set LABEL_STUDIO_API_KEY to the access token of a user who may see the project"
            raise Refused(502, f"{url}: Label Studio does not accept the token; {remedy}")
        return content

    def _authorization(self) -> dict[str, str]:
        """Of a legacy token, or of an access token, for which a personal one (JWT) is exchanged."""
        if self.key.count(".") != 2:
            return {"Authorization": f"Token {self.key}"} if self.key else {}
        if time.monotonic() > self._valid_until:
            body = json.dumps({"refresh": self.key}).encode()
            url, kind = self.locate("/api/token/refresh"), {"Content-Type": "application/json"}
            request = urllib.request.Request(url, body, kind)  # noqa: S310 - the configured host
            try:
                self._access = json.loads(fetch(request, self.limits, follow=self.locate)[0])["access"]
            except (ValueError, KeyError, TypeError):
                raise Refused(502, f"{url}: Label Studio answered no access token") from None
            self._valid_until = time.monotonic() + 240  # of the five minutes for which it is valid
        return {"Authorization": f"Bearer {self._access}"}
