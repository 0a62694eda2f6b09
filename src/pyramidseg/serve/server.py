"""Listen on a port, with uvicorn, until the process is told to stop."""

import asyncio
import gc
import signal
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import first_line, show
from pyramidseg.serve.gate import Gate
from pyramidseg.serve.service import Service


def serve(
    application: Gate,
    service: Service,
    *,
    host: str,
    port: int,
    certfile: str | None = None,
    keyfile: str | None = None,
) -> None:
    """Answer requests until SIGTERM or SIGINT; then finish those in progress. SIGHUP reloads the models.

    A signal and not a request, as those who may replace a model's file may also signal its server, and others need not
    be kept from it.

    Raises:
        ConfigError: the address or the certificate cannot be used.
        PyramidSegError: a model cannot be loaded.
    """
    limits = application.limits

    class Protocol(_TimedProtocol):
        timeout_s = limits.header_timeout_s

    config = uvicorn.Config(
        application,
        http=Protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=int(limits.max_connections),
        h11_max_incomplete_event_size=int(limits.max_header_bytes),
        timeout_graceful_shutdown=30,  # seconds for the requests in progress after a signal to stop
        ssl_certfile=certfile,
        ssl_keyfile=keyfile,
    )
    try:
        config.load()
    except OSError as error:  # also of the TLS library
        raise ConfigError(f"`ssl_certfile`, `ssl_keyfile`: cannot be read: {first_line(error)}") from None

    async def run() -> None:
        gc.freeze()  # a full collection of all imported modules stops every answer for up to seconds
        _listen(host, port, config.backlog).close()  # loading models takes a while: a port in use is reported before
        await service.start()
        listener = _listen(host, port, config.backlog)
        shown = f"{'https' if certfile else 'http'}://" + (f"[{host}]" if ":" in host else host)
        if hasattr(signal, "SIGHUP"):  # not on Windows
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, service.begin_reload)
        show(f"serving {', '.join(service.engines)} on {shown}:{listener.getsockname()[1]}")
        signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it again when it has stopped
        await uvicorn.Server(config).serve(sockets=[listener])

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # while the models are loaded
    asyncio.run(run())


def _listen(host: str, port: int, backlog: int) -> socket.socket:
    if not 0 <= port < 2**16:
        raise ConfigError(f"`port={port}`: cannot listen: a port is a number from 0 to {2**16 - 1}")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=backlog)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"`host={host}` `port={port}`: cannot listen: {first_line(error)}") from None


class _TimedProtocol(H11Protocol):
    """HTTP, without clients that send their headers or read their answers too slowly."""

    timeout_s: float
    answered: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Await the first request."""
        super().connection_made(transport)
        self.loop.call_later(self.timeout_s, self._close_if_idle, None, 0)

    def on_response_complete(self) -> None:
        """Await the next request."""
        self.answered = self.cycle
        self.loop.call_later(self.timeout_s, self._close_if_idle, self.cycle, self.transport.get_write_buffer_size())
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        """Left to `_close_if_idle`: a closed transport sends the rest of an answer without a limit of time."""

    def _close_if_idle(self, answered: Any, unread: int) -> None:
        left, is_last = self.transport.get_write_buffer_size(), answered is self.answered  # each has a timer
        if is_last and left and unread - left >= 2**16:
            self.loop.call_later(self.timeout_s, self._close_if_idle, answered, left)
        elif is_last and (left or self.cycle is answered):
            self.transport.abort()
