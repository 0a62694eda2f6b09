"""What every request passes first: its id, the token, limits on its body, security headers, and the access log."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
import re
import time
import uuid

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pyramidseg.serve.limits import Limits, Refused, is_loopback
from pyramidseg.serve.server_metrics import ServerMetrics

access = logging.getLogger(__name__)

SECURITY_HEADERS = {
    b"content-security-policy": b"default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'; object-src 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}

OPEN = re.compile(r"/(health/(live|ready)|v2/health/(live|ready)|page/[\w.-]+)?")
"""Paths that need no token: probes, and the page, which asks for it."""

UNAUTHORIZED = "a valid token is needed: send the header 'Authorization: Bearer TOKEN', or TOKEN as the password"

FOREIGN_HOST = "this server only answers as localhost or 127.0.0.1: a page of another name may not ask it"

_HOST = re.compile(r"\[?(.*?)\]?(:\d+)?$")
_REQUEST_ID = re.compile(r"[\w.:-]{1,64}")


def token_accepted(authorization: str, digest: bytes | None) -> bool:
    """Whether a header has the token of a digest, as a bearer token or as the password of basic authentication."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() == "basic":
        try:
            given = base64.b64decode(given, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return False
    known = scheme.lower() in ("basic", "bearer")
    return hmac.compare_digest(hashlib.sha256(given.strip().encode()).digest(), digest or b"") and known


class Gate:
    """The outermost application (ASGI); it keeps only a digest of the token."""

    def __init__(
        self,
        application: ASGIApp,
        *,
        limits: Limits,
        metrics: ServerMetrics,
        token: str | None,
        loopback_only: bool = False,
    ) -> None:
        self.application, self.limits, self.metrics = application, limits, metrics
        self._loopback_only = loopback_only
        self._digest = hashlib.sha256(token.encode()).digest() if token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return await self.application(scope, receive, send)
        method = scope["method"]
        scope = {**scope, "method": method.replace("HEAD", "GET")}  # sent without body
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        body = _Body(receive, self.limits, waits="expect" in headers)
        started, status, sent = time.monotonic(), 499, 0

        async def answer(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                await body.drain()
                status = message["status"]
                message["headers"] = [*message["headers"], *SECURITY_HEADERS.items()]
                message["headers"].append((b"x-request-id", request_id.encode()))
            sent += len(message.get("body", b""))
            await send(message)

        application, is_open = self.application, self._digest is None or OPEN.fullmatch(scope["path"])
        if not is_open and not token_accepted(headers.get("authorization", ""), self._digest):
            application = JSONResponse({"error": UNAUTHORIZED}, 401, {"WWW-Authenticate": "Bearer"})
        elif self._loopback_only and not is_loopback(_HOST.sub(r"\1", headers.get("host", ""))):
            application = JSONResponse({"error": FOREIGN_HOST}, 421)
        try:
            await application(scope, body.receive, answer)
        finally:
            seconds = time.monotonic() - started
            self.metrics.requests.labels(getattr(scope.get("route"), "path", "other"), status).inc()
            self.metrics.latency.labels("total").observe(seconds)
            if status >= 400:
                self.metrics.errors.labels(status).inc()
            line = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "id": request_id,
                "client": (scope.get("client") or ("",))[0],
                "request": f"{method} {scope['path'][:200]}",
                "status": status,
                "ms": round(1000 * seconds, 1),
                "bytes": [body.received, sent],
            }
            access.info(json.dumps(line))


class _Body:
    """The body of a request, within the limits on its bytes and its time."""

    def __init__(self, receive: Receive, limits: Limits, *, waits: bool) -> None:
        self._receive, self._waits = receive, waits
        self._seconds, self._most = limits.body_timeout_s, int(limits.max_body_mb * 2**20)
        self._deadline = asyncio.get_running_loop().time() + self._seconds
        self.received, self.complete = 0, False

    async def receive(self) -> Message:
        """The next message.

        Raises:
            Refused: the body is too large (413), or comes too slowly (408).
        """
        if self.complete:
            return await self._receive()  # the client's disconnect
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self.complete = True
            raise Refused(408, f"the body did not arrive within {self._seconds:g} s; send it again") from None
        self.received += len(message.get("body", b""))
        self.complete = message["type"] != "http.request" or not message.get("more_body")
        if self.received > self._most:
            raise Refused(413, f"the body has more than {self._most} bytes, which are allowed; send a smaller image")
        return message

    async def drain(self) -> None:
        """Read and drop the rest, since clients read an answer only after they have sent everything.

        A client that waits for permission to send its body (`Expect: 100-continue`) reads the answer at once.
        """
        try:
            while not self.complete and not (self._waits and not self.received):
                await self.receive()
        except Refused:
            self.complete = True
