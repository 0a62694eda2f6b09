"""Limits of the server, each with a flag of its name, and the account of requests and memory that are in progress."""

import ipaddress
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import OutOfMemory, PyramidSegError


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Refused(Exception):
    """A request that is answered with an error: its HTTP status, one sentence, and perhaps when to try again."""

    def __init__(self, status: int, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after_s = status, message, retry_after_s


def refusal(error: PyramidSegError) -> Refused:
    """How an error in a request is answered."""
    if isinstance(error, OutOfMemory) or isinstance(error.__cause__, OutOfMemory):
        return Refused(503, str(error), retry_after_s=10)
    too_large = isinstance(error, DefectError) and error.defects[0].kind is DefectKind.TOO_LARGE
    return Refused(413 if too_large else 400, str(error))


def _limit(default: float, meaning: str) -> float:
    limit: float = field(default=default, metadata={"help": meaning})
    return limit


@dataclass(frozen=True)
class Limits:
    """Limits with their defaults; `help` in the metadata of each field is that of its flag."""

    max_batch_size: float = _limit(8, "most images of equal size in a batch")
    max_wait_ms: float = _limit(5, "longest that an image waits for others of its size")
    timeout_s: float = _limit(60, "longest from a request's last byte to its answer; then 504")
    max_requests: float = _limit(64, "requests in progress or waiting; further ones get 429")
    max_memory_mb: float = _limit(2048, "MiB of bodies in progress, and as much of pixels in the workers; then 429")
    max_body_mb: float = _limit(64, "MiB of a request's body; beyond it 413")
    max_pixels: float = _limit(50_000_000, "pixels of an image; beyond it 413")
    max_images: float = _limit(16, "images in a tensor; beyond it 400")
    max_header_bytes: float = _limit(32768, "bytes of a request's headers; beyond it 400")
    header_timeout_s: float = _limit(10, "longest to send the headers of a request, or to read 64 KiB of an answer")
    body_timeout_s: float = _limit(30, "longest that a client may take to send a body; then 408")
    max_connections: float = _limit(1000, "open connections; further ones get 503")


class Admission:
    """Counts the requests in progress and the memory that they hold, and refuses more than the limits allow."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.bytes = 0
        self.held: set[Reservation] = set()
        self._seconds = 1.0  # of a recent request

    @property
    def requests(self) -> int:
        """In work."""
        return len(self.held)

    @contextmanager
    def admit(self, *, always: bool = False) -> Iterator["Reservation"]:
        """A request in progress, for the `with` block; `always`, whatever their number.

        Raises:
            Refused: 429, the server is busy.
        """
        if not always and self.requests >= self.limits.max_requests:
            raise self.busy()
        held, started = Reservation(self), time.monotonic()
        self.held.add(held)
        try:
            yield held
        finally:
            self.held.remove(held)
            self.bytes -= held.bytes
            self._seconds += 0.1 * (time.monotonic() - started - self._seconds)

    def busy(self) -> Refused:
        """The refusal of an overloaded server: a request takes about as long as the present ones."""
        wait = min(60, max(1, round(self._seconds)))
        message = f"the server is busy with {self.requests} requests; try again in {wait} s"
        return Refused(429, message, retry_after_s=wait)


@dataclass(eq=False)
class Reservation:
    """Memory that one request holds until it is answered."""

    admission: Admission
    bytes: int = 0

    def add(self, size: int) -> None:
        """Reserve further bytes.

        Raises:
            Refused: 413 if the request alone exceeds the limit, 429 if others hold the rest.
        """
        limit = int(self.admission.limits.max_memory_mb * 2**20)
        if self.bytes + size > limit:
            needed = f"this request needs {(self.bytes + size) >> 20} MiB of memory, and {limit >> 20} are allowed"
            raise Refused(413, f"{needed} for all requests; send a smaller image, or ask for less")
        if self.admission.bytes + size > limit:
            raise self.admission.busy()
        self.bytes += size
        self.admission.bytes += size
